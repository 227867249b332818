"""The commands that copy a session: `backup` and `export`."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from model.command import cli, export_session
from statemachine.core.records import AgentSpawned
from statemachine.log.recovery import durable_facts
from statemachine.stores import Entry, Write, read_rollout, read_session
from tests.command.test_inspect import closed_session
from tests.stores.session_files import make, sql
from tests.stores.test_sqlite_errors import damage_page


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """`statemachine` with these words: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["statemachine", *words])
    code: Any = 0
    try:
        cli.main()
    except SystemExit as stopped:
        code = stopped.code
    said = capsys.readouterr()
    return code, said.out, said.err


def test_backup_makes_a_session_of_its_own_and_never_overwrites(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, to = closed_session(tmp_path / "session.db"), tmp_path / "backup.db"
    code, out, err = run(capsys, monkeypatch, "backup", str(path), str(to))
    assert (code, out, err) == (0, f"{to}: {to.stat().st_size:,} bytes\n", "")
    assert durable_facts(read_session(to).ledger) == durable_facts(read_session(path).ledger)
    assert read_rollout(to, 1) == read_rollout(path, 1)
    code, out, err = run(capsys, monkeypatch, "backup", str(path), str(to))
    assert (code, out) == (2, "")
    assert "give another path" in err


def test_export_prints_all_that_is_in_a_session_a_line_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = closed_session(tmp_path / "session.db")
    before = {found.name: found.read_bytes() for found in tmp_path.iterdir()}
    code, out, err = run(capsys, monkeypatch, "export", str(path))
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["type"], line.get("path")) for line in lines[:6]] == [
        ("session", str(path)),
        *[("agent", f"/root{name}") for name in ("", "/guard", "/guard", "/scout", "/scout/clerk")],
    ]
    records = [line for line in lines if line["type"] == "record"]
    with closing(sqlite3.connect(path)) as connection:
        assert [(line["position"], line["record"]) for line in records] == connection.execute(
            "SELECT position, kind FROM log ORDER BY position"
        ).fetchall()
    assert {"told": "look"} in [line.get("data") for line in records]
    assert [(line["key"], line["answer"]) for line in lines if line["type"] == "receipt"] == [
        ("scout", [1, "/root/scout", 0])
    ]
    assert {found.name: found.read_bytes() for found in tmp_path.iterdir()} == before


def test_export_prints_nothing_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = closed_session(tmp_path / "session.db")
    _, out, _ = run(capsys, monkeypatch, "export", str(path))
    assert out.replace("\n", "").isprintable()
    assert out.isascii()


def test_export_holds_only_some_lines_of_a_long_log_at_a_time(tmp_path: Path) -> None:
    path, size, count = tmp_path / "session.db", 100_000, 200

    async def fill() -> None:
        await make(path, Write((AgentSpawned(1, 0, "a", None),)), *[Write((Entry(1, 1, "x" * size),))] * count)

    anyio.run(fill)
    found = 0
    tracemalloc.start()
    try:
        for lines in export_session.export(path, lambda *_: None):
            found += lines.count("Entry")
        assert tracemalloc.get_traced_memory()[1] < size * count / 4
    finally:
        tracemalloc.stop()
    assert found == count


SPOILED: dict[str, Callable[[Path], object]] = {
    "a page": damage_page("log"),
    "a record": lambda path: sql(path, "UPDATE log SET data = 'x' WHERE position = 2"),
    "facts": lambda path: sql(path, "UPDATE meta SET value = 'x' WHERE name = 'mail_states'"),
}


@pytest.mark.parametrize("spoiled", SPOILED)
def test_copies_of_a_damaged_session_name_the_file_that_was_given(
    spoiled: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = closed_session(tmp_path / "session.db")
    SPOILED[spoiled](path)
    code, _, err = run(capsys, monkeypatch, "export", str(path))
    assert code == 2
    assert f"{path}: " in err
    assert "/session:" not in err
    code, _, err = run(capsys, monkeypatch, "backup", str(path), str(tmp_path / "copy.db"))
    assert (code, "copy.db" in os.listdir(tmp_path)) == ((2, False) if spoiled == "a page" else (0, True))
