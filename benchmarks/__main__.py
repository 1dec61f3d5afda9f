"""`python -m benchmarks step|executors|storage`, in the repository's root."""

import typer

from benchmarks.executors.command import executors
from benchmarks.step.command import step
from benchmarks.storage.command import storage
from dia_repro import interrupts
from dia_repro.cli.main import main

app = typer.Typer(
    name="benchmarks",
    help="Benchmarks of dia-repro, for those who change it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(step)
app.command()(executors)
app.command()(storage)

if __name__ == "__main__":
    interrupts.install()
    main(app)
