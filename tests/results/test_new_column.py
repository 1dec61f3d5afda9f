"""Change story: a new column takes a line of the schema, a migration, and what writes it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

from dia_repro.results.database import open_database
from dia_repro.results.migrations import REVISION
from tests.helpers import copy_package
from tests.results.rows import ensure

SCHEMA_LINE = '    remark: Mapped[str | None] = described("A remark on the run.")\n'
MIGRATION = f'''
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{int(REVISION) + 1:04}", "{REVISION}"


def upgrade() -> None:
    with op.batch_alter_table("runs") as table:
        table.add_column(sa.Column("remark", sa.String()))
'''
WRITER = """
import sys
from contextlib import closing
from pathlib import Path

import dia_repro
from dia_repro.rendering.export import export_database
from dia_repro.rendering.records import FileFormat
from dia_repro.results.checks import database_findings
from dia_repro.results.database import open_database
from dia_repro.results.schema import RunRow
from dia_repro.results.upgrade import upgrade_database

folder = Path(sys.argv[1])
assert Path(dia_repro.__file__).is_relative_to(folder)
path = folder / "runs.db"
assert upgrade_database(str(path)) is not None
with closing(open_database(str(path), create=False)) as database:
    assert not list(database_findings(database))
    with database.writing() as session:
        session.get_one(RunRow, 1).remark = "=seen"
    export_database(
        database,
        folder / "out",
        FileFormat.CSV,
        overwrite=False,
        on_progress=lambda done, total: None,
    )
with dia_repro.open_results(path) as results:
    remark = results.runs()["remark"]
    assert remark[0] == "=seen"
    assert remark.isna().tolist() == [False, True]
    columns = results.columns().set_index("name")
    assert columns.loc["remark", "meaning"] == "A remark on the run."
"""


def test_a_new_column_takes_three_files(tmp_path: Path) -> None:
    with closing(open_database(str(tmp_path / "runs.db"), create=True)) as database:
        ensure(database, seeds=2)
    package = copy_package(tmp_path)
    schema = package / "results" / "schema.py"
    before = '    created_at: Mapped[datetime] = described("When the run'
    text = schema.read_text(encoding="utf-8")
    assert before in text
    schema.write_text(text.replace(before, SCHEMA_LINE + before), encoding="utf-8")
    versions = package / "results" / "migrations" / "versions"
    (versions / f"{int(REVISION) + 1:04}_remark.py").write_text(MIGRATION)
    (tmp_path / "writer.py").write_text(WRITER)
    done = subprocess.run(
        [sys.executable, "writer.py", tmp_path],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    header, first, _ = (tmp_path / "out" / "runs.csv").read_text().splitlines()
    values = dict(zip(header.split(","), first.split(","), strict=True))
    assert values["remark"] == "'=seen"
    assert "A remark on the run." in (tmp_path / "out" / "schema.json").read_text()
