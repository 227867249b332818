"""What specs/embedding.md shows is true: its program runs, recovers, and keeps the order within a step."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from model.audits.verify import verify_trace
from statemachine.core.agents import Agent
from statemachine.core.config import SessionConfig
from statemachine.core.effects import Effect
from statemachine.core.machines import TurnState
from statemachine.log.recovery import fold
from statemachine.stores.encoding import decode
from tests.documents.programs import REPOSITORY, assert_types_are_strict, blocks, printed_by, run

PAGE = "specs/embedding.md"
LOOP_LINES = 30
KEPT = {
    "run(session, first)": "events: Any = []; handle: Any = Session.handle; s: Any = Session; "
    "s.handle = lambda self, event: (events.append(event), handle(self, event))[1]",
    "print(text(": "from pathlib import Path; from statemachine.log import trace; "
    'trace.write(Path("run.ndjson"), session.config, events)',
}
"""Changes by which the program of the page writes its trace, of events in the order in which it hands them in."""


def program(folder: Path, changes: Mapping[str, str] | None = None) -> Path:
    """The program of the page. A change has the beginning of a line, and a statement to put before that line."""
    text = "".join(blocks(PAGE, "python"))
    for line, statement in (changes or {}).items():
        found = re.findall(rf"^ *{re.escape(line)}", text, re.MULTILINE)
        assert len(found) == 1, line
        text = text.replace(found[0], found[0].replace(line, f"{statement}\n{found[0]}"))
    script = folder / "program.py"
    script.write_text(text, "utf-8")
    return script


def durable(folder: Path) -> list[Agent]:
    """The agents as the log of the program has them."""
    with closing(sqlite3.connect(folder / "embedded.db")) as log:
        records: list[Any] = [decode(*row) for row in log.execute("SELECT * FROM log ORDER BY rowid")]
    return fold(SessionConfig(), records).agents


def test_program_of_the_page_prints_what_the_page_says_and_finds_its_agents_when_run_again(tmp_path: Path) -> None:
    script = program(tmp_path)
    first, again = blocks(PAGE, "text")
    assert printed_by(script).strip() == first.strip()
    assert printed_by(script).strip() == again.strip()


def test_program_of_the_page_passes_strict_type_checking_and_its_loop_is_short(tmp_path: Path) -> None:
    assert_types_are_strict(["".join(blocks(PAGE, "python"))], tmp_path)
    (loop,) = [block for block in blocks(PAGE, "python") if "session.handle" in block]
    assert len([line for line in loop.splitlines() if line]) <= LOOP_LINES


def test_program_of_the_page_that_is_killed_as_a_turn_starts_finds_that_turn_interrupted(tmp_path: Path) -> None:
    killed = run(program(tmp_path, {"Thread(target=work": "__import__('os')._exit(9)"}))
    assert killed.returncode == 9
    assert [agent.status for agent in durable(tmp_path)[1:]] == [TurnState.RUNNING]
    assert "/root/scout  interrupted 1" in printed_by(program(tmp_path))
    assert durable(tmp_path)[1].status is TurnState.INTERRUPTED


def test_program_of_the_page_tells_nobody_and_does_nothing_if_its_write_fails(tmp_path: Path) -> None:
    noisy = {"inbox.put(": "reply.add_done_callback(print)", "match effect": "print(effect)"}
    failed = run(program(tmp_path, {**noisy, "log.executemany(": "assert not step.records, 'the disk is full'"}))
    assert "the disk is full" in failed.stderr
    assert (failed.returncode, failed.stdout) == (1, "")


def test_log_of_the_page_is_locked_as_long_as_its_program_runs(tmp_path: Path) -> None:
    other = "import sqlite3; sqlite3.connect('embedded.db', timeout=0).execute('SELECT * FROM log')"
    start = f'import subprocess, sys; sys.exit(subprocess.call([sys.executable, "-c", "{other}"]))'
    refused = run(program(tmp_path, {"run(session, first)": start}))
    assert refused.returncode == 1
    assert "database is locked" in refused.stderr


def test_loop_of_the_page_plays_a_session_that_the_reference_and_every_property_hold_to_be_right(
    tmp_path: Path,
) -> None:
    printed_by(program(tmp_path, KEPT))
    result = verify_trace(tmp_path / "run.ndjson", 1, lambda *_: None)
    assert result.held, result.lines
    assert (tmp_path / "run.ndjson").read_text("utf-8").count("Finished") == 2


def test_clock_of_the_loop_of_the_page_never_goes_back_though_bounds_run_out(tmp_path: Path) -> None:
    """The loop told a bound that was due after the time at which it had woken up for it."""
    waits = {
        "log = sqlite3.connect(": "unloaded: Any = queue.Queue()",
        "match effect": "isinstance(effect, fx.Unload) and unloaded.put(effect)",
        "ask(ev.Shutdown(": "unloaded.get()",
    }
    made = "made: Any = SessionConfig; SessionConfig: Any = lambda **given: made(idle_ttl=0.001, **given)"
    printed_by(program(tmp_path, {**KEPT, **waits, "session, first = recover(": made}))
    result = verify_trace(tmp_path / "run.ndjson", 1, lambda *_: None)
    assert result.held, result.lines
    assert '"Flushed"' in (tmp_path / "run.ndjson").read_text("utf-8").split('"Shutdown"')[0]


def test_page_says_what_to_do_for_every_effect() -> None:
    page = (REPOSITORY / PAGE).read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [kind.__name__ for kind in Effect.__args__]
