"""The explorer: golden counts, the same with any number of processes, symmetry, shortest faults, bad scopes.

The counts are golden: a change of a rule, of a scope or of what a state is changes them, and has to say why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from model import kept, lockstep, reference
from model.exploration import explorer
from model.exploration.explorer import Arrival, Expander, Exploration, Fault, Origin, explore, never_home
from model.exploration.golden_counts import GOLDEN, GOLDEN_NIGHTLY, GOLDEN_TOP_RUNG, TOP_RUNG, Counts
from model.exploration.scopes import RUNGS, SCOPES, BadScope, Scope, events, find
from model.exploration.symmetry import digest_of
from model.lockstep import AnyEvent, Deviation, core_step
from model.scenarios.script import line_of
from statemachine.checking.moment import Moment
from statemachine.core import rules, turns
from statemachine.core.effects import Refused, Stale, Step
from statemachine.core.events import HOST, ROOT, Close, Event, Loaded, Resume, Send, Spawn
from statemachine.core.ledger import Ledger
from statemachine.core.machines import TURN, Residency, TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome, Record, TurnEnded
from statemachine.core.session import Session
from statemachine.log import recovery
from tests.core.scenario import everything

SMALL = ("reject", "end", "gather", "attempts", "recall")
"""Default scopes that every run counts; the larger ones are counted by the nightly test."""
LARGE = tuple(name for name in GOLDEN if name not in SMALL)


def counts(found: Exploration) -> Counts:
    return Counts(found.states, found.offered, found.transitions, found.depth)


@pytest.mark.parametrize("name", SMALL)
def test_explore_default_scope_is_closed_with_its_golden_counts(name: str) -> None:
    found = explore(find(name))
    assert found.fault is None
    assert found.closed
    assert counts(found) == GOLDEN[name]


@pytest.mark.nightly
@pytest.mark.parametrize("name", LARGE)
def test_explore_larger_default_scope_is_closed_with_its_golden_counts(name: str) -> None:
    found = explore(find(name), jobs=2)
    assert (found.fault, found.closed, counts(found)) == (None, True, GOLDEN[name])


@pytest.mark.nightly
@pytest.mark.parametrize("name", GOLDEN_NIGHTLY)
def test_explore_nightly_rung_is_closed_with_its_golden_counts(name: str) -> None:
    found = explore(find(name), jobs=2)
    assert (found.fault, found.closed, counts(found)) == (None, True, GOLDEN_NIGHTLY[name])


def test_golden_counts_cover_every_nightly_rung() -> None:
    assert list(GOLDEN_NIGHTLY) == [scope.name for scope in RUNGS if scope.nightly]
    assert GOLDEN_NIGHTLY[TOP_RUNG] == GOLDEN_TOP_RUNG


def test_scope_without_threads_has_none_of_their_reports() -> None:
    scope, session = find("live-line"), lockstep.start(find("live-line").config)[0]
    session.handle(Spawn(ROOT, "a", "m", None, HOST))
    kinds = {type(event) for event in events(scope, session)}
    assert kinds == {Spawn, Close, Resume}
    assert Loaded in {type(event) for event in events(attrs.evolve(scope, threads=True), session)}


def test_golden_counts_cover_every_default_scope() -> None:
    assert list(GOLDEN) == [scope.name for scope in SCOPES]
    assert set(SMALL) <= set(GOLDEN)


def test_explore_with_two_processes_finds_the_same_as_with_one() -> None:
    one, two = explore(find("reject")), explore(find("reject"), jobs=2)
    assert counts(one) == counts(two)
    assert one.coverage == two.coverage


def test_explore_up_to_a_number_of_states_is_not_closed() -> None:
    found = explore(find("pair"), max_states=100)
    assert not found.closed
    assert found.states >= 100


TRIO_IN_CALM = attrs.evolve(find("trio"), mails=1, waits=(), host_sends=("follow_up",))
TOP = find("trio-faults")
TOP_OF_TWO = attrs.evolve(
    TOP, tree=TOP.tree[:2], ids=2, config=attrs.evolve(TOP.config, max_concurrent=2, max_resident=1)
)
"""The top rung with one agent, slot and residency slot less."""


LENDING = attrs.evolve(
    find("attempts"),
    tree=TOP.tree[:2],
    config=attrs.evolve(find("attempts").config, max_overtaken=1),
    waits=("request", "choice"),
    waits_each=2,
    asks_up=True,
    subtrees=True,
    symmetric=True,
)
"""Two agents that ask themselves, wait, lend, are tried again, overtake each other and are interrupted as subtrees."""


def agents_in(session: Session) -> Counter[Any]:
    """What there is of agents, whichever is which."""
    return Counter((a.identity, a.status.is_idle or a.status, a.residency, len(a.mailbox)) for a in session.agents)


@pytest.mark.parametrize("scope", [TRIO_IN_CALM, TOP_OF_TWO, LENDING], ids=["in calm", "with every fault", "lending"])
def test_canonical_identifies_exactly_the_states_that_differ_in_who_is_who(scope: Scope) -> None:
    """The states of a symmetric scope, counted without symmetry and then put together, are those found with it."""
    plain = attrs.evolve(scope, symmetric=False)
    line = [Session(plain.config)]
    seen, forms = {digest_of(line[0], plain)}, {digest_of(line[0], scope): agents_in(line[0])}
    while line:
        state = line.pop()
        for event in events(plain, state):
            after, step = core_step(state.fork(), event)
            if isinstance(step.reply, Refused | Stale):
                continue
            digest = digest_of(after, plain)
            if digest not in seen:
                seen.add(digest)
                line.append(after)
                assert forms.setdefault(digest_of(after, scope), agents_in(after)) == agents_in(after)
    assert len(forms) == explore(scope).states
    assert len(forms) < len(seen) / 3


def test_canonical_identifies_states_that_differ_in_who_sent_a_mail() -> None:
    def sent_by(agent: int) -> Session:
        session = Session(TOP.config)
        for name in ("a", "b"):
            session.handle(Spawn(ROOT, name, "m", None, HOST))
        for event in (Loaded(1, 1), Loaded(2, 1), Send(agent, ROOT, "m")):
            assert not isinstance(session.handle(event).reply, Refused | Stale)
        return session

    assert sent_by(1).fingerprint() != sent_by(2).fingerprint()
    assert digest_of(sent_by(1), TOP) == digest_of(sent_by(2), TOP)


def test_explore_broken_rule_gives_a_shortest_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Late trigger mail that is forgotten shows when somebody else takes the slot: five events."""
    monkeypatch.setattr(rules, "goes_on", lambda *_: False)
    found = explore(find("pair"))
    assert found.fault is not None
    session, _ = lockstep.start(found.scope.config)
    lines = []
    for event in found.path:
        lines.append(line_of(event, session))
        session, _ = core_step(session, event)
    assert lines == ["spawn root a by host", "spawn a b by host", "loaded a", "follow_up host a", "finished a"]


def test_explore_state_that_only_a_property_judges_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "compare_states", lambda *_: None)
    monkeypatch.setattr(rules, "is_counted", lambda _: True)
    found = explore(find("root"))
    assert found.fault is not None
    assert found.fault.kind in {"S3", "S13", "lockstep", "crash"}


def test_explore_illegal_move_of_the_core_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "START", TURN.moves("admit"))
    found = explore(find("pair"))
    assert found.fault is not None
    assert (found.fault.kind, found.fault.detail) == ("crash", "IllegalMove: Turn has no move 'admit' from starting")


def test_explore_log_that_folds_to_other_facts_than_the_session_has_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(facts: Ledger, record: Record) -> None:
        if not isinstance(record, TurnEnded):
            recovery.apply(facts, record)

    monkeypatch.setattr(kept, "apply", forgetful)
    found = explore(find("pair"))
    assert found.fault is not None
    assert found.fault.detail.startswith("recovery: ")


def test_explore_refusal_that_changes_something_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    full, asked = rules.mailbox_has_room, [Session().agents[0]]

    def leaks(unread: int, promised: int, max_unread: int, kind: MailKind) -> bool:
        room = full(unread, promised, max_unread, kind)
        if not room:
            asked[0].promised += 1
        return room

    original = Session.handle

    def handle(self: Session, event: Event) -> Step:
        asked[:] = self.agents
        return original(self, event)

    monkeypatch.setattr(Session, "handle", handle)
    monkeypatch.setattr(rules, "mailbox_has_room", leaks)
    found = explore(find("pair"))
    assert found.fault is not None
    assert found.fault.kind == "refusal"
    assert "MailboxFull" in found.fault.detail


def expanded(scope: Scope) -> Iterator[tuple[Session, Any]]:
    """Every state of the scope, once."""
    line = [lockstep.start(scope.config)]
    seen = {digest_of(line[0][0], scope)}
    for session, world in line:
        yield session, world
        for event in events(scope, session):
            after_world, reply, _ = reference.step(world, lockstep.TRANSLATE[event.__class__](event))
            if reply[0] in ("refused", "stale"):
                continue
            after, _ = core_step(session.fork(), event)
            digest = digest_of(after, scope)
            if digest not in seen:
                seen.add(digest)
                line.append((after, after_world))


def told(event: AnyEvent) -> tuple[Any, ...]:
    """The event in the reference's terms."""
    return lockstep.TRANSLATE[event.__class__](event)


@pytest.mark.parametrize("name", ["reject", "end"])
def test_step_of_a_fork_or_of_the_reference_changes_nothing_of_the_state_before(name: str) -> None:
    scope = find(name)
    for session, world in expanded(scope):
        of_core, of_model = everything(session), repr(vars(world))
        for event in events(scope, session):
            core_step(session.fork(), event)
            reference.step(world, told(event))
            assert everything(session) == of_core, event
            assert repr(vars(world)) == of_model, event


@pytest.mark.parametrize("name", ["reject", "circle"])
def test_reference_answers_on_a_copy_that_a_refusal_left_as_on_a_new_one(name: str) -> None:
    scope = find(name)
    replies: set[str] = set()

    def answer(world: reference.World, event: AnyEvent) -> tuple[Any, ...]:
        after, reply, effects = reference.step(world, told(event))
        replies.add(reply[1] if reply[0] == "refused" else reply[0])
        return reply, effects, vars(after)

    for session, world in expanded(scope):
        line = [*events(scope, session)]
        one_after_the_other = [answer(world, event) for event in line]
        for event, answered in zip(line, one_after_the_other, strict=True):
            reference.DRAFT.clear()
            assert answer(world, event) == answered, event
    assert {"reject": "AgentClosed", "circle": "WaitCircle"}[name] in replies


@pytest.mark.parametrize("name", ["reject", "end"])
def test_reference_gives_the_world_before_exactly_if_nothing_changed_and_keeps_the_order_of_ids(name: str) -> None:
    scope = find(name)
    for session, world in expanded(scope):
        for event in events(scope, session):
            after, _, _ = reference.step(world, told(event))
            assert (after is world) == (repr(vars(after)) == repr(vars(world))), event
            for relation in ("parent", "phase", "place", "turn", "load"):
                assert [*vars(after)[relation]] == [*after.path] == [*range(len(after.path))], "in the order of ids"


@pytest.mark.parametrize("name", ["reject", "end"])
def test_moment_leaves_no_agent_out_that_a_step_property_would_look_at(name: str) -> None:
    scope = find(name)
    for session, _ in expanded(scope):
        for event in events(scope, session):
            after, step = core_step(session.fork(), event)
            moment = Moment(after, session, None, step)
            changed = {before.id for before, _ in moment.changed()}
            for before, now in zip(session.agents, after.agents, strict=False):
                if before.id not in changed:
                    assert (before.status, before.outcome, before.mailbox) == (now.status, now.outcome, now.mailbox)
                    assert (before.residency, before.settings) == (now.residency, now.settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", TurnState.ERRORED),
        ("outcome", Outcome(0, 1, TurnState.ERRORED, "r", Cause.FAILED)),
        ("mailbox", (MailAccepted(0, 0, 0, MailKind.QUEUE, "m"),)),
        ("residency", Residency.UNLOADED),
        ("settings", "other"),
    ],
)
def test_moment_shows_an_agent_of_which_one_fact_differs(name: str, value: object) -> None:
    before = Session()
    after = before.fork()
    assert Moment(after, before).changed() == []
    setattr(after.agents[0], name, value)
    assert Moment(after, before).changed() == [(before.agents[0], after.agents[0])]


def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on every event is taken through all stages before the next begins."""
    play = Expander.play

    def singly(self: Expander, origin: Origin, line: list[tuple[int, AnyEvent]]) -> list[Arrival]:
        return [arrival for one in line for arrival in play(self, origin, [one])]

    monkeypatch.setattr(Expander, "play", singly)


@pytest.mark.parametrize("name", ["reject", "end"])
def test_explore_one_event_at_a_time_finds_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    together = explore(find(name))
    one_by_one(monkeypatch)
    singly = explore(find(name))
    assert (counts(together), together.coverage) == (counts(singly), singly.coverage)


@pytest.mark.parametrize("rule", ["goes_on", "mailbox_has_room", "is_evictable", "is_current"])
def test_explore_one_event_at_a_time_finds_the_same_fault(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, rule, lambda *_: False)
    together = explore(find("pair"))
    one_by_one(monkeypatch)
    singly = explore(find("pair"))
    assert together.fault is not None
    assert (together.fault, together.path, counts(together)) == (singly.fault, singly.path, counts(singly))


def test_explore_fault_that_only_all_events_together_show_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Expander.play

    def fails(self: Expander, origin: Origin, line: list[tuple[int, AnyEvent]]) -> list[Arrival]:
        if len(line) > 1:
            raise Deviation("state", "together", "one by one")
        return play(self, origin, line)

    monkeypatch.setattr(Expander, "play", fails)
    detail = "state: the core says 'together', the reference 'one by one'"
    assert explore(find("pair")).fault == Fault("lockstep", detail, None)


def test_never_home_finds_threads_that_answer_for_ever() -> None:
    a, b, c = b"a", b"b", b"c"
    assert never_home({0: b, 1: c, 2: None}, {a: 0, b: 1, c: 2}) == (0, None)
    state, fault = never_home({0: b, 1: a, 2: None}, {a: 0, b: 1, c: 2})
    assert (state, fault) == (0, Fault("L7", "threads answer for ever and nothing comes to rest", None))


def test_find_unknown_scope_names_those_that_there_are() -> None:
    with pytest.raises(BadScope, match="there is no scope 'nowhere'; there are pair, trio"):
        find("nowhere")


def test_scopes_have_different_names_and_a_meaning() -> None:
    names = [scope.name for scope in (*SCOPES, *RUNGS)]
    assert len(names) == len(set(names))
    assert all(scope.meaning for scope in (*SCOPES, *RUNGS))
