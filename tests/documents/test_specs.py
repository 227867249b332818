"""What people wrote in specs/ is true: traces play as shown, claims have code and tests, tables match the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from model import coverage
from model.documents import properties as properties_document
from model.documents.properties import properties_document as document
from model.exploration import explorer
from model.exploration.golden_counts import GOLDEN
from model.exploration.scopes import SCOPES, Scope
from model.lockstep import AnyEvent, core_step
from model.scenarios import golden, script
from statemachine.checking.properties import PROPERTIES
from statemachine.core import joint, rules, turns
from statemachine.core.config import Notice, Overflow, SessionConfig
from statemachine.core.events import HOST, ROOT, Event, Finished, FollowUp, Loaded, Spawn
from statemachine.core.machines import MACHINES, TurnState
from statemachine.core.records import MailKind
from statemachine.core.residency import Residents
from statemachine.core.session import Session

REPOSITORY = Path(__file__).parents[2]
SPECS = REPOSITORY / "specs"
STEP_LINES = ("reply", "record", "effect")
LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]+)\)")


def text_of(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


# Traces in documents


def blocks(kind: str, document: str = "decisions.md") -> list[list[str]]:
    """The lines of every fenced block of this kind in a document, by default in the decisions."""
    found = re.findall(rf"^```{kind}\n(.*?)^```$", text_of(f"specs/{document}"), re.MULTILINE | re.DOTALL)
    return [block.splitlines() for block in found]


TRACES = [*blocks("trace"), *blocks("trace", "semantics.md")]


def shown(lines: list[str]) -> list[str]:
    """Lines without indentation and alignment."""
    return [" ".join(line.split()) for line in lines]


def compare_step(expected: list[str], said: list[str], view: list[str]) -> None:
    """What a document shows of a step: all of what was said, or nothing of it; and some lines of the view."""
    expected, said, view = shown(expected), shown(said), shown(view)
    of_step = [line for line in expected if line.startswith(STEP_LINES)]
    assert of_step in ([], said)
    of_view = [line for line in expected if not line.startswith(STEP_LINES)]
    assert of_view == [line for line in view if line in of_view]


def titled(trace: list[str]) -> str:
    events = [line.removeprefix("> ") for line in trace if line.startswith("> ")]
    return ", ".join(events[:2] + events[-2:]) or trace[0]


@pytest.mark.parametrize("trace", TRACES, ids=titled)
def test_trace_in_a_document_is_what_happens(trace: list[str]) -> None:
    head, *rest = trace
    if rest[0].lstrip().startswith("InvalidConfig "):
        with pytest.raises(golden.BadTrace) as refused:
            golden.configuration({1: head}, SPECS / "decisions.md")
        assert str(refused.value) == f"decisions.md:1: {rest[0].strip().removeprefix('InvalidConfig ')}"
        return
    player = golden.Player(golden.configuration({1: head}, SPECS / "decisions.md"))
    starts = [index for index, line in enumerate(rest) if line.startswith("> ")]
    assert starts[0] == 0
    for start, end in zip(starts, [*starts[1:], len(rest)], strict=True):
        log = player.play(script.parse(rest[start].removeprefix("> "), player.session))
        said = [line for line in log if line.startswith(STEP_LINES)]
        compare_step(rest[start + 1 : end], said, player.view)


def test_traces_in_the_decisions_show_every_decision_by_its_number() -> None:
    sections = re.split(r"^##+ ", text_of("specs/decisions.md"), flags=re.MULTILINE)[1:]
    numbered = [section.split()[0] for section in sections if re.match(r"D\d+ ", section)]
    assert numbered == [f"D{number}" for number in range(1, 32)]
    for section in sections:
        title = section.partition("\n")[0]
        assert "```trace\n" in section or "```wedge" in section or title == "Other readings", title


@pytest.mark.parametrize(
    ("expected", "fine"),
    [
        (["  reply   Noted", "  effect  Load a"], True),
        (["  effect  Load a"], False),
        (["  reply   Noted", "  effect  Load b"], False),
        (["  /root  new"], True),
        (["  session  open", "  /root  new"], False),
        (["  /root  old"], False),
        ([], True),
    ],
)
def test_step_in_a_trace_is_compared_as_a_whole_and_the_state_by_lines(expected: list[str], fine: bool) -> None:
    said, view = ["reply Noted", "effect Load a"], ["/root  new", "/root/a new", "session  open"]
    if fine:
        compare_step(expected, said, view)
    else:
        with pytest.raises(AssertionError):
            compare_step(expected, said, view)


# The wedge


def pinned_by_mail(monkeypatch: pytest.MonkeyPatch, waits: bool) -> None:
    """The seed rule, taken literally: who has unread mail is no victim. Without one, a turn waits, or it gives up.

    The reference model has N1, and would be the first to notice. What the properties say is more interesting.
    """
    by_the_rules = Residents.victim

    def victim(self: Residents, agents: list[Any], tried: tuple[int, ...]) -> int | None:
        return by_the_rules(self, agents, (*tried, *[a for a in self.idle if agents[a].mailbox]))

    def make_room(s: Session, agent: Any) -> bool:
        chosen = s.residents.victim(s.agents, s.residents.tried.get(agent.id, ()))
        if s.residents.room_is_coming(agent.id) or chosen is None:
            return False
        turns.evict(s, s.agents[chosen], agent.id)
        return True

    monkeypatch.setattr(Residents, "victim", victim)
    if waits:
        monkeypatch.setattr(joint, "make_room", make_room)
    for name in ("compare_step", "compare_states"):
        monkeypatch.setattr(explorer, name, lambda *_: None)


def small_world(**rest: Any) -> Scope:
    """Two agents, one slot, one residency slot; threads do what they are asked."""
    tree = (("/root", "a"), ("/root", "b"))
    config = SessionConfig(max_concurrent=2, max_resident=1, overflow=Overflow.REJECT)
    return Scope(name="wedge", tree=tree, config=config, closes=False, waits=(), agents_act=False, **rest)


BY_MAIL = small_world(host_sends=("send",), interrupts=False)
BY_INTERRUPT = small_world(host_sends=())


def as_script(config: SessionConfig, events: tuple[AnyEvent, ...]) -> list[str]:
    """The events, as the decisions write them."""
    session, lines = Session(config), []
    for event in events:
        lines.append(f"> {script.line_of(event, session)}")
        session, _ = core_step(session, event)
    return lines


@pytest.mark.parametrize(
    ("scope", "waits", "trace", "outcome", "broken"),
    [
        (BY_MAIL, True, "wedge", "wedge that waits", {"L9"}),
        (BY_MAIL, False, "wedge", "wedge that gives up", {"L1", "L7"}),
        (BY_INTERRUPT, True, "wedge by an interrupt", None, {"L9"}),
        (BY_INTERRUPT, False, "wedge by an interrupt", None, {"L1", "L7"}),
    ],
)
def test_wedge_of_the_literal_seed_rule_is_found_again(
    scope: Scope, waits: bool, trace: str, outcome: str | None, broken: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned_by_mail(monkeypatch, waits)
    found = explorer.explore(scope)
    assert found.fault is not None
    assert found.fault.kind in broken
    ((config, *lines),) = blocks(trace)
    assert config == "config max_concurrent=2 max_resident=1 overflow=REJECT"
    assert as_script(scope.config, found.path) == lines
    if outcome is not None:
        (expected,) = blocks(outcome)
        *before, last = [line.removeprefix("> ") for line in lines]
        session = Session(scope.config)
        for line in before:
            session, _ = core_step(session, script.parse(line, session))
        session, step = core_step(session, script.parse(last, session))
        compare_step(expected, list(golden.step_lines(session, step)), golden.view(session))


def test_wedge_without_the_literal_seed_rule_is_not_found() -> None:
    for scope in (BY_MAIL, BY_INTERRUPT):
        found = explorer.explore(scope)
        assert (found.fault, found.closed) == (None, True)


# Decisions that no trace can show


def work_of_two(monkeypatch: pytest.MonkeyPatch | None) -> Iterator[str]:
    """Two agents of which one asked the other: who finishes a turn, until nobody runs."""
    if monkeypatch is not None:
        monkeypatch.setattr(rules, "is_request", lambda kind, is_notice: kind is MailKind.TRIGGER)
    s = Session(SessionConfig(max_concurrent=3, notice=Notice.TRIGGER))
    program: list[Event] = [
        *(Spawn(ROOT, "a", "work", sender=HOST), Loaded(1, 1), Spawn(ROOT, "b", "work", sender=HOST), Loaded(2, 1)),
        *(Finished(2, 1, "r"), FollowUp(1, 2, "work"), Finished(1, 1, "r")),
    ]
    for event in program:
        s.handle(event)
    while at_work := [agent for agent in s.agents if agent.status is TurnState.RUNNING]:
        yield at_work[0].path
        s.handle(Finished(at_work[0].id, at_work[0].turn, "r"))


def test_notices_that_are_no_requests_wake_an_agent_once() -> None:
    assert list(work_of_two(None)) == ["/root/b", "/root/a"]


def test_notices_that_are_requests_keep_two_agents_at_work_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    turns_taken = work_of_two(monkeypatch)
    assert [next(turns_taken) for _ in range(100)] == ["/root/b", "/root/a"] * 50


# specs/correctness.md


def claims() -> list[list[str]]:
    """The cells of every claim."""
    lines = [line for line in text_of("specs/correctness.md").splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in rows if len(row) == 4 and row[0] not in ("claim", "---")]


def test_claim_has_its_code_and_its_test() -> None:
    assert len(claims()) > 50
    for claim, code, tests, _ in claims():
        assert any(target.startswith(("../statemachine/", "../model/")) for _, target in LINK.findall(code)), claim
        assert any(target.startswith("../tests/") for _, target in LINK.findall(tests)), claim


def test_claims_name_every_property_and_no_other() -> None:
    judged = [name for *_, names in claims() for name in names.strip("| ").split(", ") if name]
    assert set(judged) == {known.id for known in PROPERTIES}


def test_correctness_ends_with_known_limits() -> None:
    titles = re.findall(r"^## (.+)$", text_of("specs/correctness.md"), re.MULTILINE)
    assert titles[-1] == "Known limits"


def test_scopes_in_correctness_are_those_of_check_with_their_golden_counts() -> None:
    numbers = {name: " | ".join(f"{number:,}" for number in attrs.astuple(counts)) for name, counts in GOLDEN.items()}
    rows = "".join(f"| {s.name} | {s.meaning} | {numbers[s.name]} |\n" for s in SCOPES)
    assert f"---: |\n{rows}\n" in text_of("specs/correctness.md"), f"the table should have these rows:\n{rows}"


# specs/properties.md and the index


def test_properties_document_names_every_property_judge_and_thing_that_must_be_seen() -> None:
    text = document()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| [SL]\d+ \|", line)]
    assert [row[0] for row in rows] == [known.id for known in PROPERTIES]
    for known, row in zip(PROPERTIES, rows, strict=True):
        assert row[1:3] == [known.sentence, known.source]
        assert len(row) == 6
        judges = [judge.__name__ for judge in (known.state, known.step) if judge is not None]
        assert re.findall(r"\.(\w+)`", row[4]) == (judges or ["never_home", "drive_home"])
    seen = {
        f"move {m.name}.{row.trigger} from {s.name.lower()}" for m in MACHINES for row in m.rows for s in row.sources
    }
    for machine, trigger, sources in re.findall(r"^\| (\w+) \| `(\w+)` \| (.+) \|$", text, re.MULTILINE):
        seen -= {f"move {machine}.{trigger} from {source}" for source in sources.split(", ")}
    assert seen == set()
    situations = [s.id for s in coverage.SITUATIONS]
    assert re.findall(r"^\| (.+) \| .+ \|$", text.partition("### Situations")[2], re.MULTILINE)[2:] == situations
    for name in coverage.required():
        kind, _, rest = name.partition(" ")
        assert f"`{rest}`" in text if kind in ("refusal", "stale") else kind == "move" or name in situations, name


def test_properties_document_links_a_golden_trace_where_its_head_names_the_property() -> None:
    cited = properties_document.golden_traces()
    assert "[wedge](traces/wedge.txt)" in cited["L6"]
    assert "[wedge](traces/wedge.txt)" not in cited["S1"]


def test_index_of_the_specs_has_a_row_for_every_document_there() -> None:
    rows = re.findall(r"^\| \[.+?\]\((.+?)/?\) \|", text_of("specs/README.md"), re.MULTILINE)
    assert sorted(rows) == sorted(path.name for path in SPECS.iterdir() if path.name != "README.md")
