"""The complete alphabet: what it has, that each state is tried with it, and what only it notices."""

from __future__ import annotations

import time
from typing import Any

import attrs
import pytest

from model import lockstep, watch
from model.alphabet import complete
from model.breaks.catalogue import BREAKS
from model.breaks.hunt import injected
from model.exploration import explorer
from model.exploration.explorer import explore
from model.exploration.scopes import SCOPES, events, find, small_config
from model.lockstep import Restart
from model.scenarios import replay
from model.scenarios.replay import Trial
from model.watch import StepNeverEnds, arm, watched
from statemachine.core import events as ev
from statemachine.core import joint
from statemachine.core.events import HOST, ROOT
from statemachine.core.session import Session

ALPHABET = [known for known in BREAKS if known.instead.__module__.endswith("alphabet_defects")]
OF_CALLERS = (ev.Status, ev.ListAgents)
"""Asked in every state anyway (S8)."""


def play(session: Session, *happened: ev.Event) -> None:
    for event in happened:
        session.handle(event)


def busy() -> Session:
    """An agent that works, one that is closed, one that is forgotten, and one on its way out."""
    session = Session(small_config(1, 1))
    spawned = [ev.Spawn(ROOT, name, "m", None, HOST) for name in ("a", "b", "c", "d")]
    play(session, *spawned, ev.Close(HOST, 2), ev.Close(HOST, 3), ev.Forget(3), ev.Loaded(1, 1), ev.Finished(1, 1, "r"))
    return session


def test_alphabet_has_every_event_class_about_every_agent_by_every_sender_once() -> None:
    session = busy()
    alphabet = list(complete(session))
    agents = {*range(5), 5, HOST}
    assert {event.__class__ for event in alphabet} == {*ev.EVENTS, Restart} - {*OF_CALLERS}
    for kind in (ev.Send, ev.FollowUp, ev.Interrupt, ev.Close, ev.Resume):
        asked = {(event.sender, event.target) for event in alphabet if isinstance(event, kind)}
        assert asked == {(sender, target) for sender in agents for target in agents}
    for of_agent in (ev.Loaded, ev.Died, ev.Flushed, ev.Finished, ev.Aborted, ev.Drain, ev.Wait, ev.StopWaiting):
        assert {event.agent for event in alphabet if isinstance(event, of_agent)} == agents
    assert len(alphabet) == len({repr(event) for event in alphabet})


def test_alphabet_has_current_earlier_and_later_numbers_of_every_kind() -> None:
    session = busy()
    alphabet = list(complete(session))
    flush, mails = session.residents.flushes[1], session.ledger.next_mail
    assert {e.flush for e in alphabet if isinstance(e, ev.Flushed)} >= {flush, flush - 1, flush + 1}
    assert {e.turn for e in alphabet if isinstance(e, ev.Finished) and e.agent == 1} >= {0, 1, 2}
    assert {e.generation for e in alphabet if isinstance(e, ev.Died) and e.agent == 1} >= {0, 1, 2}
    assert {e.mail for e in alphabet if isinstance(e, ev.Withdraw)} == {*range(-1, mails + 1)}


@pytest.mark.parametrize("name", ["live-end", "end-alone"])
def test_probes_are_compared_and_change_no_count(name: str) -> None:
    plain, probed = explore(find(name)), explore(find(name), probes=True)
    assert (plain.fault, probed.fault) == (None, None)
    assert (plain.states, plain.offered, plain.transitions) == (probed.states, probed.offered, probed.transitions)
    assert plain.coverage == probed.coverage
    assert (plain.probed, probed.probed > 100 * probed.states) == (0, True)


def test_check_tries_the_alphabet_in_some_scopes_and_two_processes_try_as_much_as_one() -> None:
    assert [scope.name for scope in SCOPES if scope.probed] == ["end-alone", "live-end"]
    one, two = (explore(find("live-end"), jobs=jobs, probes=True).probed for jobs in (1, 2))
    assert one == two


@pytest.mark.parametrize("a_break", [b for b in ALPHABET if find(b.place).probed], ids=lambda b: b.id)
def test_break_is_noticed_by_the_alphabet(a_break: Any) -> None:
    with injected(a_break):
        found = explore(find(a_break.place), probes=True)
        assert found.fault is not None
        assert found.fault.event is not None


@pytest.mark.parametrize("name", ["stale-reports-use-up-a-number", "refused-withdrawals-are-kept"])
def test_what_a_fingerprint_leaves_out_is_seen_if_a_refused_or_stale_event_changes_it(name: str) -> None:
    a_break = next(known for known in ALPHABET if known.id == name)
    with injected(a_break, with_reference=False):
        found = explore(find(a_break.place), probes=True)
        assert found.fault is not None
        assert found.fault.kind == "refusal"


def test_scope_offers_no_current_report_as_stale_when_two_flushes_are_in_flight() -> None:
    scope = attrs.evolve(find("trio"), config=small_config(2, 2), faults=frozenset())
    session, _ = lockstep.start(scope.config)
    play(session, *(ev.Spawn(ROOT, name, "m", None, HOST) for name in ("a", "b", "c")))
    play(session, ev.Loaded(1, 1), ev.Loaded(2, 1), ev.Finished(1, 1, "r"), ev.Finished(2, 1, "r"))
    play(session, ev.Spawn(ROOT, "d", "m", None, HOST))
    assert len(session.residents.flushes) == 2
    reports = [e for e in events(scope, session) if isinstance(e, ev.FlushFailed)]
    assert reports
    for report in reports:
        assert session.residents.flushes.get(report.agent) != report.flush


# Steps that never end


def for_ever(*_: object) -> bool:
    while True:
        pass


def test_explore_step_that_never_ends_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint, "advance", for_ever)
    monkeypatch.setattr(explorer, "arm", lambda: arm(0.1))
    found = explore(find("pair"))
    assert found.fault is not None
    assert (found.fault.kind, found.fault.detail) == ("endless", "the step does not end")
    assert isinstance(found.fault.event, ev.Spawn)


def test_trial_step_that_never_ends_is_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint, "advance", for_ever)
    monkeypatch.setattr(replay, "STEP_SECONDS_MAX", 0.1)
    with pytest.raises(StepNeverEnds) as raised:
        Trial(small_config(1, 1)).play(ev.Spawn(ROOT, "a", "m"))
    assert replay.verdict_of(raised.value) == replay.Verdict("endless", "the step does not end")


def test_watch_ends_what_takes_too_long_and_nothing_after_it() -> None:
    with watched():
        arm(0.05)
        with pytest.raises(StepNeverEnds):
            for_ever()
        arm(0.05)
        watch.disarm()
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
    assert not watch.is_watched()
