"""Claims of specs/correctness.md that no other test holds: what the core imports, forks, half steps, time, engines."""

from __future__ import annotations

import ast
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from model.exploration import explorer
from model.exploration.scopes import find
from model.lockstep import core_step
from model.scenarios import golden, script
from model.scenarios.replay import Trial
from statemachine.checking import properties
from statemachine.checking.moment import Moment
from statemachine.checking.properties import PROPERTIES, STATE_PROPERTIES, STEP_PROPERTIES, Property, PropertyViolation
from statemachine.core import turns
from statemachine.core.config import SessionConfig
from statemachine.core.effects import Refused, Stale
from statemachine.core.events import HOST, ROOT, Finished, FollowUp, Spawn, Tick
from statemachine.core.machines import Residency
from statemachine.core.session import Session
from tests.core.scenario import Scenario, everything, running

REPOSITORY = Path(__file__).parents[2]


def imports_of(path: Path) -> set[str]:
    """The modules that a module imports, those included that are imported in functions or for type checkers."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *[f"{node.module}.{alias.name}" for alias in node.names]}
    return found


def core() -> dict[str, set[str]]:
    """Module -> imports, of everything in the package that `statemachine.core.session` and recovery need."""
    folder = REPOSITORY / "statemachine"
    files = {".".join(path.relative_to(REPOSITORY).with_suffix("").parts): path for path in folder.rglob("*.py")}
    found: dict[str, set[str]] = {}
    line = ["statemachine.core.session", "statemachine.log.recovery"]
    for module in line:
        if module not in found:
            found[module] = imports_of(files[module])
            line.extend(name for name in found[module] if name in files)
    return found


def test_core_imports_nothing_that_does_io_or_tells_the_time_or_draws_random_numbers() -> None:
    modules = core()
    pure = {"attrs", "bisect", "collections", "enum", "heapq", "json", "math", "operator", "re", "typing"}
    harmless = {"__future__", "statemachine", *pure}
    foreign = {
        module: {name for name in imports if name.partition(".")[0] not in harmless}
        for module, imports in modules.items()
    }
    assert {module: names for module, names in foreign.items() if names} == {}
    assert len(modules) > 15
    for module in modules:
        tree = ast.parse((REPOSITORY / f"{module.replace('.', '/')}.py").read_text("utf-8"))
        called = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not called & {"open", "print", "input", "exec", "eval", "__import__", "id", "hash"}, module


LAYOUT = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}
"""Tokens that say nothing to the interpreter."""


def tokens_of(path: Path) -> int:
    """How long a module is, however it is laid out: its tokens, without layout, comments and docstrings."""
    docstrings = {
        node.body[0].value.lineno
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and isinstance(node.body[0], ast.Expr)
        and ast.get_docstring(node) is not None
    }
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in LAYOUT]
    tokens = list(with_whole_f_strings(tokens))
    return len([token for token in tokens if not (token.type == tokenize.STRING and token.start[0] in docstrings)])


def with_whole_f_strings(tokens: Iterable[tokenize.TokenInfo]) -> Iterator[tokenize.TokenInfo]:
    """Leaves out what is within an f-string: since Python 3.12 each is many tokens."""
    start, end = getattr(tokenize, "FSTRING_START", None), getattr(tokenize, "FSTRING_END", None)
    depth = 0
    for token in tokens:
        depth -= token.type == end
        if not depth and token.type != end:
            yield token
        depth += token.type == start


def test_reference_is_small_enough_to_be_read_and_needs_the_standard_library_alone() -> None:
    path = REPOSITORY / "model" / "reference.py"
    assert {name.partition(".")[0] for name in imports_of(path)} <= sys.stdlib_module_names
    lines = path.read_text("utf-8").splitlines()
    assert tokens_of(path) <= 8_000
    assert len([line for line in lines if line]) <= 750, "blank lines aside"
    assert max(len(line) for line in lines) <= 100


def test_tokens_of_a_module_leave_out_layout_comments_and_docstrings(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('"""A module."""\n\n\ndef f(a):  # and\n    """What it does."""\n    return f"{a:{a}}", a\n')
    assert tokens_of(path) == 6 + 4


@pytest.mark.parametrize("name", ["close_subtree", "recovery", "shutdown", "victims", "wait_stalled"])
def test_fork_of_a_session_goes_its_own_way(name: str) -> None:
    trace = golden.read(golden.TRACES / f"{name}.txt")
    session = Session(trace.config)
    for scripted in trace.events:
        fork, before = session.fork(), everything(session)
        assert everything(fork) == before
        fork, step = core_step(fork, script.parse(scripted.words, fork))
        assert everything(session) == before, scripted.words
        session, expected = core_step(session, script.parse(scripted.words, session))
        assert list(golden.step_lines(fork, step)) == list(golden.step_lines(session, expected)), scripted.words
        assert everything(fork) == everything(session), scripted.words


def test_session_whose_core_raises_has_failed_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: Any) -> None:
        raise ZeroDivisionError("a slip")

    session = running().session
    monkeypatch.setattr(turns, "lay_down", raises)
    with pytest.raises(ZeroDivisionError):
        session.handle(Finished(1, 1, "result"))
    monkeypatch.undo()
    reply = session.handle(Finished(1, 1, "result")).reply
    assert isinstance(reply, Stale)
    reply = session.handle(FollowUp(HOST, 1, "work")).reply
    assert isinstance(reply, Refused)
    assert str(reply.refusal).startswith("the store failed (defect in the core: ZeroDivisionError('a slip'))")


def test_tick_that_is_earlier_than_another_changes_nothing() -> None:
    s = Scenario(idle_ttl=10).rush("spawn root a by host", "loaded a", "tick 5", "finished a")
    s.looked_at = True
    for now in (4.0, 0.0, -1.0, float("-inf")):
        s.feed(Tick(now))
        s.same()
    s.feed(Tick(15.0))
    assert s.session.agents[1].residency is Residency.UNLOADING


def fails(_: Moment) -> str:
    return "it does not hold"


@pytest.mark.parametrize("kind", ["state", "step"])
def test_property_that_fails_is_noticed_by_every_engine(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Property("X", "it holds", "nowhere", **{kind: fails})
    monkeypatch.setattr(properties, f"{kind.upper()}_PROPERTIES", (failing,))
    monkeypatch.setattr(explorer, f"{kind.upper()}_JUDGES", ((failing, fails),))
    config, event = SessionConfig(), Spawn(ROOT, "a", "work")
    with pytest.raises(PropertyViolation, match="X"):
        Trial(config).play(event)
    with pytest.raises(PropertyViolation, match="X"):
        golden.Player(config).play(event)
    with pytest.raises(PropertyViolation, match="X"):
        Scenario().feed(event)
    fault = explorer.explore(find("pair")).fault
    assert fault is not None
    assert (fault.kind, fault.detail) == ("X", "it does not hold")


def test_explorer_judges_every_property_that_the_other_engines_judge_and_l7() -> None:
    judged = {known.id for known, _ in (*explorer.STATE_JUDGES, *explorer.STEP_JUDGES)}
    assert judged == {known.id for known in (*STATE_PROPERTIES, *STEP_PROPERTIES)}
    assert judged | {"L7"} == {known.id for known in PROPERTIES}
