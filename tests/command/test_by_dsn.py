"""The commands that look at what a session left behind do with a DSN what they do with a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from model.command import cli
from statemachine import AgentControl
from statemachine.stores import PostgresStore, SQLiteStore, read_rollout
from statemachine.stores.postgres.dsn import dsn_of
from statemachine.stores.postgres.schema import MIGRATIONS
from tests.command.test_inspect import CONFIG, live_a_little, work
from tests.stores.databases import sql


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str, str]:
    """`statemachine` with these words: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["statemachine", *map(str, words)])
    monkeypatch.setenv("COLUMNS", "140")
    code: Any = 0
    try:
        cli.main()
    except SystemExit as stopped:
        code = stopped.code
    said = capsys.readouterr()
    return code or 0, said.out, said.err


@pytest.fixture
def lived(dsn: str) -> str:
    """The DSN of a session that lived a little, and was closed."""

    async def live() -> None:
        async with AgentControl.open(dsn, work, CONFIG) as control:
            await live_a_little(control)

    anyio.run(live)
    return dsn


def test_inspect_shows_the_session_and_the_life_of_an_agent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lived: str
) -> None:
    code, out, err = run(capsys, monkeypatch, "inspect", lived)
    assert (code, err) == (0, "")
    assert "/root/scout/clerk" in out
    code, out, _ = run(capsys, monkeypatch, "inspect", lived, "--agent", "/root/scout", "--json")
    assert len(json.loads(out)["rollout"]) == len(read_rollout(lived, 1)) > 3
    code, out, _ = run(capsys, monkeypatch, "inspect", lived, "--json")
    found = json.loads(out)
    assert (found["path"], found["schema"], found["epoch"], found["receipts"]) == (lived, len(MIGRATIONS), 1, 1)
    assert found["file_bytes"] > 1000


def test_verify_holds_and_names_what_no_session_could_have_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lived: str
) -> None:
    code, out, err = run(capsys, monkeypatch, "verify", lived)
    assert (code, err) == (0, ""), out
    assert "verdict: HELD" in out
    ((session,),) = sql(lived, "SELECT id FROM statemachine.sessions WHERE name = %s", dsn_of(lived).session)
    sql(lived, "DELETE FROM statemachine.log WHERE session = %s AND kind = 'TurnStarted'", session)
    code, out, _ = run(capsys, monkeypatch, "verify", lived)
    assert code == 1
    assert "FAILED" in out


def test_backup_and_export_give_what_the_backup_gives(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lived: str, tmp_path: Path
) -> None:
    to = tmp_path / "copy.db"
    code, out, err = run(capsys, monkeypatch, "backup", lived, to)
    assert (code, out, err) == (0, f"{to}: {to.stat().st_size:,} bytes\n", "")
    assert run(capsys, monkeypatch, "verify", to)[0] == 0
    code, out, err = run(capsys, monkeypatch, "export", lived)
    assert (code, err) == (0, "")
    first, *rest = [json.loads(line) for line in out.splitlines()]
    assert (first["type"], first["path"]) == ("session", lived)
    assert [json.loads(line) for line in run(capsys, monkeypatch, "export", to)[1].splitlines()][1:] == rest
    assert {line["type"] for line in rest} == {"agent", "record", "receipt"}


def test_what_the_file_and_the_database_have_of_the_same_life_is_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, dsn: str, tmp_path: Path
) -> None:
    async def live(store: SQLiteStore | PostgresStore) -> None:
        async with AgentControl.open(store, work, CONFIG, clock=lambda: 1.0) as control:
            await live_a_little(control)

    exported = []
    for place, store in ((tmp_path / "s.db", SQLiteStore(tmp_path / "s.db")), (dsn, PostgresStore(dsn))):
        anyio.run(live, store)
        out = run(capsys, monkeypatch, "export", place)[1]
        exported.append([json.loads(line) for line in out.splitlines()][1:])
    assert exported[0] == exported[1]


@pytest.mark.parametrize("command", ["inspect", "verify", "export"])
def test_session_that_is_not_there_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, dsn: str, command: str
) -> None:
    code, out, err = run(capsys, monkeypatch, command, dsn)
    assert (code, out) == (2, "")
    assert err.startswith("statemachine: postgresql://")
    assert len(err.splitlines()) == 1
