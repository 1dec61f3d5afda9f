"""Run the migrations on the connection that `results.database` hands over."""

from __future__ import annotations

from alembic import context

from dia_repro.results.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
context.run_migrations()
