"""Folders of checkpoints, one for each database."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from dia_repro.execution.maintenance import checkpoint_store, default_root
from dia_repro.results.database import open_database


@pytest.mark.parametrize(
    ("location", "root"),
    [
        ("runs.db", "runs-checkpoints"),
        ("sqlite:///there/runs.db", "there/runs-checkpoints"),
        ("runs-file.db", "runs-file-checkpoints"),
        ("runs", "runs.checkpoints"),
        ("runs.bak", "runs.bak.checkpoints"),
        ("runs.db.before-upgrade-1", "runs.db.before-upgrade-1.checkpoints"),
    ],
)
def test_a_file_has_a_root_of_its_own(location: str, root: str) -> None:
    assert str(default_root(location)) == root


@pytest.mark.postgres
def test_a_server_and_a_file_share_no_root(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    roots = {
        checkpoint_store(open_database(location, create=True)).absolute()
        for location in (postgres, "runs.db")
    }
    assert len(roots) == 2


@pytest.mark.postgres
def test_schemas_are_told_apart_however_they_are_chosen(postgres: str) -> None:
    url = make_url(postgres)
    engine = create_engine(url)
    with engine.begin() as connection:
        for schema in ("one", "t.o"):
            connection.execute(text(f'create schema if not exists "{schema}"'))
    engine.dispose()
    server = f"{url.database}@{url.host}-{url.port}-checkpoints"
    for options, named in (
        ("-csearch_path=one", f"{url.database}+one"),
        ("--search-path=one", f"{url.database}+one"),
        ("-csearch_path=one -csearch_path=public", url.database),
        ('-csearch_path="t.o"', f"{url.database}+t.o"),
    ):
        chosen = url.update_query_dict({"options": options})
        location = chosen.render_as_string(hide_password=False)
        assert str(default_root(location)) == server.replace(str(url.database), str(named), 1)
