"""Simulated lives of a running session: they hold, they replay to the byte, and they notice what is broken.

The seeds of CI are played here in chunks, so that they can be shared among processes. Each chunk has to meet all that
a life can meet: a simulation in which nothing goes wrong proves nothing.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import attrs
import pytest

from model.command import cli
from model.simulation import schedule as simulation_schedule
from model.simulation.campaign import FAILURES_MAX, Campaign, campaign, play
from model.simulation.judges import judge_durable
from model.simulation.life import simulate
from model.simulation.schedule import NotRepeatable
from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core import rules
from statemachine.core import waits as core_waits
from statemachine.core.agents import Agent
from statemachine.core.effects import Answer, Step
from statemachine.core.ledger import Ledger
from statemachine.core.records import MailWithdrawn, Outcome
from statemachine.runtime import AgentInfo, engine, handles, live, requests, stream
from statemachine.runtime.calls import Call
from statemachine.runtime.control import AgentControl
from statemachine.runtime.engine import Batch, Engine
from statemachine.runtime.errors import words
from statemachine.runtime.live import LiveThreads
from statemachine.runtime.requests import Requests
from statemachine.runtime.settings import info_of
from statemachine.runtime.verbs import Verbs
from statemachine.runtime.waits import Waits
from statemachine.stores import encoding
from statemachine.stores.protocol import Entry

SEEDS, CHUNK = 1_000, 100

MET = (
    *("opening left by an exception", "opening cancelled as a whole", "opening store failed", "opening left in peace"),
    *("opening died before its append was durable", "opening died after its append was durable", "died in an append"),
    *("opening taken over by another process", "opening shut down by a host", "session taken over", "store failed"),
    *("accepted spawn", "accepted send", "accepted follow_up", "accepted start", "entry recorded"),
    *("caller cancelled past shields", "request repeated as soon as its caller was cancelled"),
    *("turn raised what would end a program",),
    *("caller cancelled", "turn cancelled", "wait cancelled", "load cancelled", "work ignored its cancellation"),
    *("wait ended by MAIL", "wait ended by TARGET", "wait ended by TIMEOUT", "wait ended by INTERRUPTED"),
    *("turn raised", "turn hung", "turn returned no JSON", "thread lost in a turn", "thread lost in load"),
    *("load raised", "load hung", "constructor raised", "flush of a thread", "evictions", "reloads", "stale_reports"),
    *("process stood still", "store was busy", "trace failed"),
    *("repeated key after a lost answer", "repeated key gave the first answer", "key reused for another request"),
    *("outcome by handle", "handle by reference", "call after the turn's end", "events lost by a slow reader"),
    *("interrupted while RUNNING", "interrupted while STARTING", "close raised", "store could not be read"),
    *("outcome awaited in a turn", "outcome given up after a time", "outcome cancelled in the middle", "tree"),
    *("outcome awaited in finally", "task failed beside others that await", "slot lent by choice", "withdrawn"),
    *("slept in the session", "wait for requests ended by ANSWERED", "subtree interrupted", "forgotten"),
    *("wait refused WaitCircle", "wait refused Stalled", "attempt after a returned turn"),
    *("turn ended by TIMED_OUT", "turn ended by WITHDRAWN", "turn ended by CRASHED", "turn ended by THREAD_DIED"),
    *("refused MailboxFull", "refused PathTaken", "refused LiveThreadsFull", "refused ExecutionFull"),
)
"""What every chunk has to meet."""
RARE = ("resumed", "wait refused NotRunning")
"""What all seeds together have to meet."""


@pytest.mark.parametrize("first", range(1, SEEDS + 1, CHUNK))
def test_simulated_lives_hold_and_meet_everything_that_can_go_wrong(first: int, tmp_path: Path) -> None:
    result = play(range(first, first + CHUNK), tmp_path)
    assert not result.failures, "\n".join(map(str, result.failures))
    assert result.seeds == CHUNK
    assert not [what for what in MET if not result.notes[what]]


def test_simulated_lives_meet_what_is_rare() -> None:
    missed = set(RARE)
    for seed in range(1, SEEDS + 1):
        missed -= simulate(seed).notes.keys()
        if not missed:
            return
    raise AssertionError(f"{SEEDS} lives never met {missed}")


# Replay


def test_simulated_life_with_the_same_seed_is_the_same_to_the_byte() -> None:
    for seed in (1, 2, 3, 4, 5):
        assert simulate(seed) == simulate(seed)


def test_simulated_lives_with_different_seeds_differ() -> None:
    assert len({simulate(seed).digest for seed in range(1, 11)}) == 10


def test_simulated_life_is_the_same_in_processes_that_hash_differently() -> None:
    code = "from model.simulation.life import simulate; print(*[simulate(seed).digest for seed in range(1, 9)])"
    said = []
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        said.append(done.stdout)
    assert said[0] == said[1]
    assert said[0].split() == [simulate(seed).digest for seed in range(1, 9)]


def test_scheduling_order_that_follows_no_seed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation_schedule.ensure_repeatable.cache_clear()
    monkeypatch.setattr(simulation_schedule, "SWITCH", "_SOMETHING_ELSE")
    with pytest.raises(NotRepeatable, match="has no seed for its scheduling order"):
        simulate(1)
    monkeypatch.undo()
    monkeypatch.setattr(simulation_schedule.random_of_trio(), "seed", lambda _: None, raising=False)
    with pytest.raises(NotRepeatable, match="does not follow its seed"):
        simulation_schedule.ensure_repeatable()
    monkeypatch.undo()
    simulation_schedule.ensure_repeatable()


def test_run_that_would_never_end_is_ended_and_says_where_it_waited() -> None:
    async def wait_for_nobody() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.Event().wait()

    async def never_sleep() -> None:
        while True:
            await anyio.lowlevel.checkpoint()

    for main in (wait_for_nobody, never_sleep):
        (place,) = simulation_schedule.run(main, 1)
        assert "test_simulation.py" in place


# Breaks


def carried_out_before_the_commit(m: pytest.MonkeyPatch) -> None:
    put = Engine.put

    def early(self: Engine, step: Step, receipt: Any = None) -> None:
        put(self, Step(step.records, step.reply, ()), receipt)
        for effect in step.effects:
            self.carry_out(effect)

    m.setattr(Engine, "put", early)


def answered_before_the_commit(m: pytest.MonkeyPatch) -> None:
    async def at_once(_: Engine) -> None:
        await anyio.lowlevel.checkpoint()

    def durable(self: Engine) -> Batch:
        batch = Batch(self.signal(), is_durable=True)
        batch.settled.set()
        return batch

    m.setattr(Engine, "settled", at_once)
    m.setattr(Engine, "in_line", property(durable))


def waits_go_on_when_cancelled(m: pytest.MonkeyPatch) -> None:
    """The core is not told that code has given up its wait."""

    async def give_up(*_: Any) -> None:
        await anyio.lowlevel.checkpoint()

    m.setattr(Waits, "give_up", give_up)


def code_goes_on_without_a_slot(m: pytest.MonkeyPatch) -> None:
    """Code that gives up a wait does not wait for its slot."""

    async def give_up(self: Waits, number: int) -> None:
        self._stop_waiting(number)

    m.setattr(Waits, "give_up", give_up)


def outcomes_awaited_with_the_slot(m: pytest.MonkeyPatch) -> None:
    """The core does not know that a turn awaits an outcome, so what is to come of it may find no slot."""
    awaited_in = handles.Request._awaited_in

    async def poll(self: handles.Request, turn: Waits) -> Outcome:
        while not turn.is_over and self.ref.mail in self._asker.session.ledger.requests:
            await anyio.sleep(0.05)
        return await awaited_in(self, turn)

    m.setattr(handles.Request, "_awaited_in", poll)


def awaited_notices_unread(m: pytest.MonkeyPatch) -> None:
    m.setattr(core_waits.Waits, "awaits", lambda *_: False)


def returned_turns_lose_a_mail(m: pytest.MonkeyPatch) -> None:
    return_turn = Ledger.return_turn

    def but_for_one(self: Ledger, agent: Agent, turn: int) -> None:
        agent.taken = agent.taken[1:]
        return_turn(self, agent, turn)

    m.setattr(Ledger, "return_turn", but_for_one)


def attempts_without_end(m: pytest.MonkeyPatch) -> None:
    m.setattr(rules, "has_attempts_left", lambda *_: True)


def wakes_lost(m: pytest.MonkeyPatch) -> None:
    m.setitem(live.CARRY_OUT, fx.Wake, lambda *_: None)


def withdrawals_not_asked_for(m: pytest.MonkeyPatch) -> None:
    async def nothing(*_: Any) -> None:
        await anyio.lowlevel.checkpoint()

    m.setattr(Verbs, "withdraw", nothing)


def withdrawals_not_in_the_rollout(m: pytest.MonkeyPatch) -> None:
    name, _, *rest = encoding.WAYS[MailWithdrawn]
    m.setitem(encoding.WAYS, MailWithdrawn, (name, None, *rest))


def forgotten_agents_known(m: pytest.MonkeyPatch) -> None:
    async def nothing(*_: Any) -> None:
        await anyio.lowlevel.checkpoint()

    m.setattr(Requests, "check_not_forgotten", nothing)


def nobody_told_of_a_failure(m: pytest.MonkeyPatch) -> None:
    def abandon(self: Engine) -> None:
        self._is_over = True
        self._work.set()

    m.setattr(Engine, "abandon", abandon)


def receipts_lost(m: pytest.MonkeyPatch) -> None:
    put = Engine.put
    m.setattr(Engine, "put", lambda self, step, _=None: put(self, step, None))


def commits_reordered(m: pytest.MonkeyPatch) -> None:
    items = Engine._items

    def backwards(self: Engine, batch: Batch) -> Any:
        batch.records.reverse()
        return items(self, batch)

    m.setattr(Engine, "_items", backwards)


def steps_torn(m: pytest.MonkeyPatch) -> None:
    items = Engine._items

    def but_for_the_last(self: Engine, batch: Batch) -> Any:
        last = next((event.records for event in reversed(batch.events) if isinstance(event, Step)), ())
        if len(last) > 1 and batch.records[-1] is last[-1]:
            self._batch.records.append(batch.records.pop())
        return items(self, batch)

    m.setattr(Engine, "_items", but_for_the_last)


def cancel_skipped_before_the_turn_began(m: pytest.MonkeyPatch) -> None:
    cancel = LiveThreads.cancel

    def only_if_begun(self: LiveThreads, effect: Any) -> None:
        known = self.threads.get(effect.agent)
        if known is not None and known.call is not None:
            cancel(self, effect)

    m.setitem(live.CARRY_OUT, fx.Cancel, only_if_begun)


def cancel_lost(m: pytest.MonkeyPatch) -> None:
    m.setitem(live.CARRY_OUT, fx.Cancel, lambda *_: None)


def lost_threads_kept(m: pytest.MonkeyPatch) -> None:
    m.setattr(LiveThreads, "_lose", lambda *_: None)


def unloaded_threads_kept(m: pytest.MonkeyPatch) -> None:
    m.setitem(live.CARRY_OUT, fx.Unload, lambda *_: None)


def threads_not_closed(m: pytest.MonkeyPatch) -> None:
    async def close(*_: Any) -> None:
        await anyio.lowlevel.checkpoint()

    m.setattr(LiveThreads, "_close", close)


def two_at_a_time_on_a_thread(m: pytest.MonkeyPatch) -> None:
    def at_once(self: LiveThreads, known: live.Live, call: Call) -> None:
        async def alone() -> None:
            report = call.cancelled()
            with self._scope(known) as scope:
                known.scope = scope
                known.call = call
                try:
                    report = await call.make()
                except Exception as error:
                    report = call.failed(words(error))
                    if live.is_lost(error):
                        report = ev.Died(known.agent, known.generation, words(error))
            self._over(known, call, report)

        if known.asked is None:
            known.asked = self._engine.bell()
            self._tasks.start_soon(self._live_on, known)
        self._tasks.start_soon(alone)

    m.setattr(LiveThreads, "_ask", at_once)


def late_calls_answered(m: pytest.MonkeyPatch) -> None:
    m.setattr(Waits, "check", lambda _: None)


def answers_dropped(m: pytest.MonkeyPatch) -> None:
    carry_out = AgentControl._carry_out
    m.setattr(AgentControl, "_carry_out", lambda self, e: None if isinstance(e, Answer) else carry_out(self, e))


def first_end_taken_for_the_answer(m: pytest.MonkeyPatch) -> None:
    def first(rollout: tuple[Any, ...], *_: Any) -> Any:
        return next((r.outcome for r in rollout if r.__class__.__name__ == "TurnEnded"), None)

    m.setattr(requests, "outcome_in", first)


def entries_of_flushes_dropped(m: pytest.MonkeyPatch) -> None:
    record = Engine.record

    def unless_flushed(self: Engine, entry: Entry) -> None:
        if self.session.agents[entry.agent].status.is_idle:
            return
        record(self, entry)

    m.setattr(Engine, "record", unless_flushed)


def entries_not_in_line(m: pytest.MonkeyPatch) -> None:
    m.setattr(Engine, "record", lambda *_: None)


def snapshots_miss_agents(m: pytest.MonkeyPatch) -> None:
    m.setattr(engine, "touched", lambda records, ledger: set())


def effects_published_before_records(m: pytest.MonkeyPatch) -> None:
    def add(self: stream.Stream, event: Step | Entry) -> None:
        happened = (event,) if isinstance(event, Entry) else (*event.effects, *event.records)
        self._unread.extend(happened)
        self._changed.set()

    m.setattr(stream.Stream, "add", add)


def entries_not_shown(m: pytest.MonkeyPatch) -> None:
    add = stream.Stream.add
    m.setattr(stream.Stream, "add", lambda self, event: None if isinstance(event, Entry) else add(self, event))


def entries_shown_too_early(m: pytest.MonkeyPatch) -> None:
    publish = stream.Streams.publish

    def entries_first(self: stream.Streams, events: Sequence[Step | Entry]) -> None:
        publish(self, sorted(events, key=lambda event: not isinstance(event, Entry)))

    m.setattr(stream.Streams, "publish", entries_first)


def slow_readers_miss_events_silently(m: pytest.MonkeyPatch) -> None:
    add = stream.Stream.add

    def silently(self: stream.Stream, event: Step | Entry) -> None:
        add(self, event)
        self._lost = False

    m.setattr(stream.Stream, "add", silently)


def time_stands_still(m: pytest.MonkeyPatch) -> None:
    async def never(_: Engine) -> None:
        await anyio.sleep_forever()

    m.setattr(Engine, "keep_time", never)


def settings_forgotten(m: pytest.MonkeyPatch) -> None:
    def forgetful(agent: int, path: str, settings: str | None) -> AgentInfo:
        return attrs.evolve(info_of(agent, path, settings), settings=None)

    m.setattr(live, "info_of", forgetful)


def senders_mistaken(m: pytest.MonkeyPatch) -> None:
    follow_up = Verbs.follow_up
    m.setattr(Verbs, "follow_up", lambda self, _, *rest: follow_up(self, -1, *rest))


class Released(dict[str, Any]):
    """Keys that may have been let go before."""

    def __delitem__(self, key: str) -> None:
        self.pop(key, None)


def keys_let_go_by_cancelled_callers(m: pytest.MonkeyPatch) -> None:
    """As if the request were made in the caller's task."""
    once = Requests._once

    async def let_go(self: Requests, key: Any, *rest: Any) -> Any:
        if not isinstance(self._making, Released):
            self._making = Released()
        try:
            return await once(self, key, *rest)
        except BaseException:
            self._making.pop(key, None)
            raise

    m.setattr(Requests, "_once", let_go)


def base_exceptions_of_code_end_the_session(m: pytest.MonkeyPatch) -> None:
    failed = LiveThreads._failed

    def only_exceptions(self: LiveThreads, known: Any, call: Any, error: BaseException) -> Any:
        if not isinstance(error, Exception):
            raise error
        return failed(self, known, call, error)

    m.setattr(LiveThreads, "_failed", only_exceptions)


def keys_not_in_line(m: pytest.MonkeyPatch) -> None:
    """Two at a time may ask with one key."""

    class NotHeld(Released):
        def __contains__(self, _: object) -> bool:
            return False

    once = Requests._once

    async def alone(self: Requests, *rest: Any) -> Any:
        if not isinstance(self._making, NotHeld):
            self._making = NotHeld()
        return await once(self, *rest)

    m.setattr(Requests, "_once", alone)


def stale_generations_loaded(m: pytest.MonkeyPatch) -> None:
    """A report of a load that was given up counts for the present one."""
    loaded = ev.Loaded

    def current(agent: int, generation: int) -> Any:
        return loaded(agent, max(1, generation - 1))

    m.setattr(ev, "Loaded", current)


def refusals_uncounted(m: pytest.MonkeyPatch) -> None:
    take = Engine._take

    def quietly(self: Engine, event: Any, receipt: Any) -> Any:
        before = self.counts.refusals.copy()
        reply = take(self, event, receipt)
        self.counts.refusals = before
        return reply

    m.setattr(Engine, "_take", quietly)


def clock_goes_back(m: pytest.MonkeyPatch) -> None:
    """After each time, the core is told the one before once more."""
    take = Engine._take

    def twice(self: Engine, event: Any, receipt: Any) -> Any:
        before = self.session.now
        reply = take(self, event, receipt)
        if isinstance(event, ev.Tick):
            take(self, ev.Tick(before), None)
        return reply

    m.setattr(Engine, "_take", twice)


BREAKS: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    carried_out_before_the_commit: "runs, and the log does not say so|which is not in the log|the log has None",
    answered_before_the_commit: "was told mail .* but the log has None",
    waits_go_on_when_cancelled: "S1: .* goes on without a slot",
    code_goes_on_without_a_slot: "S1: .* goes on without a slot",
    outcomes_awaited_with_the_slot: "nothing can happen any more, and turn .* waits for mail",
    awaited_notices_unread: "reads of request .* had awaited it|S21: .* of them stays unread",
    returned_turns_lose_a_mail: "which a returned turn before it had read|the core says .*'start'.* the reference",
    attempts_without_end: "is attempt|in a row|the core says .*'start'.* the reference .*'interrupted'",
    wakes_lost: "nothing can happen any more, and turn .* waits for",
    withdrawals_not_asked_for: "was withdrawn, and the log does not say so",
    withdrawals_not_in_the_rollout: "the handle of .* gives|its rollout is",
    forgotten_agents_known: "is forgotten, and|at rest: UnknownRequest",
    nobody_told_of_a_failure: "still waits in|never ended",
    receipts_lost: "was answered before, and now refused|was answered with .* and now with|in the log 2 times",
    commits_reordered: "append [0-9]+ of the log is",
    steps_torn: "append [0-9]+ of the log ends within a step",
    cancel_skipped_before_the_turn_began: "its work would have stopped|a host still waits",
    cancel_lost: "its work would have stopped",
    lost_threads_kept: "was closed 0 times|are alive, resident are",
    unloaded_threads_kept: "are alive, resident are|was closed 0 times",
    threads_not_closed: "was closed 0 times",
    two_at_a_time_on_a_thread: "while it is busy with",
    late_calls_answered: "its late call was answered|was never asked for, or refused as late",
    answers_dropped: "was told None, the log has",
    first_end_taken_for_the_answer: "the handle of .* gives|the handle of .* gave|was told",
    entries_of_flushes_dropped: "what was flushed .* is not in the log",
    entries_not_in_line: "was acknowledged, and is not in the log",
    snapshots_miss_agents: "the snapshot cannot be|other facts than the log folds to",
    effects_published_before_records: "not a stretch of",
    entries_not_shown: "not a stretch of the log",
    entries_shown_too_early: "not a stretch of the log",
    slow_readers_miss_events_silently: "not a stretch of|events.. ended with",
    time_stands_still: "never ended|still waits|block was left by|have something to do",
    settings_forgotten: "was spawned as .* and is",
    senders_mistaken: "is in the log as of -1",
    keys_let_go_by_cancelled_callers: "is in the log 2 times|was told NO, and is in the log 1 times",
    base_exceptions_of_code_end_the_session: "the session's block was left by|the run ended by",
    keys_not_in_line: "is in the log 2 times|was told NO, and is in the log 1 times",
    stale_generations_loaded: "its thread would have been loaded",
    refusals_uncounted: "refusals were counted as",
    clock_goes_back: "has a clock that went back",
}
"""What is broken, and what the judges say of it."""
TOLD_BY_THE_REFERENCE = (awaited_notices_unread, returned_turns_lose_a_mail)
"""Breaks in the core, of which the reference may be the first to tell, in words of its own."""
HUNTED = 300


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of tasks in a life that never ends
@pytest.mark.parametrize("break_it", BREAKS, ids=lambda broken: broken.__name__)
def test_simulation_notices_a_runtime_that_is_broken(
    break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    for seed in range(1, HUNTED + 1):
        said = "\n".join(simulate(seed).blames)
        if re.search(BREAKS[break_it], said):
            break
        assert not said or (break_it in TOLD_BY_THE_REFERENCE and "lockstep: " in said), said
    else:
        raise AssertionError("nobody noticed")
    gc.collect()


def test_appends_that_end_within_a_step_are_blamed_once_each_also_if_the_next_has_nothing() -> None:
    blames: list[str] = []
    world: Any = SimpleNamespace(disk=SimpleNamespace(writes=[["a"], [], ["b"], ["c"]]), blame=blames.append)
    played: Any = SimpleNamespace(steps=[SimpleNamespace(records=records) for records in (("a", "b"), ("c",))])
    judge_durable(world, played)
    assert blames == ["append 0 of the log ends within a step, with a"]


# Campaigns


def test_campaign_saves_the_traces_of_a_seed_that_fails_and_says_how_to_play_it_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answered_before_the_commit(monkeypatch)
    result = campaign(30, 1, 1, None, tmp_path)
    assert len(result.failures) == FAILURES_MAX
    failure = result.failures[0]
    assert f"statemachine simulate --seeds 1 --first {failure.seed}" in str(failure)
    assert failure.traces
    assert [path.read_bytes() for path in failure.traces] == list(simulate(failure.seed).traces)


def test_campaign_in_several_processes_comes_to_the_same_as_in_one(tmp_path: Path) -> None:
    alone, shared = (campaign(24, 1, jobs, None, tmp_path) for jobs in (1, 2))
    assert alone == shared
    assert alone.seeds == 24


def test_campaign_that_is_interrupted_keeps_what_was_done(tmp_path: Path) -> None:
    def interrupt(so_far: Campaign) -> None:
        if so_far.seeds == 3:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    result = campaign(10, 1, 1, interrupt, tmp_path)
    assert (result.seeds, result.interrupted) == (3, True)
    assert signal.getsignal(signal.SIGINT) is before


def run_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[Any, str]:
    monkeypatch.setattr(sys, "argv", ["statemachine", "simulate", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr()
    return stopped.value.code, said.out + said.err


def test_simulate_command_exits_0_if_all_held_1_if_not_and_2_if_it_cannot_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = run_command(capsys, monkeypatch, "--seeds", "3", "--first", "7")
    assert code == 0
    assert "3 seeds from 7" in said
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as broken:
        answered_before_the_commit(broken)
        code, said = run_command(capsys, broken, "--seeds", "1", "--first", "1")
    assert code == 1
    assert "to play it again: statemachine simulate --seeds 1 --first 1" in said
    code, said = run_command(capsys, monkeypatch, "--seeds", "0")
    assert (code, said.count("\n")) == (2, 1)
