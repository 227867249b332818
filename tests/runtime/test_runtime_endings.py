"""Turns that end in time, and again: time-outs, attempts, withdrawn mail, interrupted trees, a shutdown while turns
await others (semantics.md section 7, turns that end in time, and again).
"""

from __future__ import annotations

import contextvars
from typing import Any

import anyio
import pytest

from statemachine import MemoryStore
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause
from statemachine.core.refusals import (
    MailRead,
    NotSender,
    RootRefused,
    SelfRefused,
    SessionClosed,
    SessionDraining,
    UnknownMail,
)
from statemachine.runtime import AgentControl, AgentRef, Handle, Thread, ThreadLost, Turn
from tests.runtime.running import (
    Open,
    Stage,
    completed,
    counts,
    echo,
    ending,
    states,
    traced_sessions,
    virtual_time,
)

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)


# Time-outs of turns


async def test_turn_that_takes_too_long_is_stopped_waiting_or_not(open_session: Open) -> None:
    async def work(turn: Turn) -> Any:
        if turn.path == "/root/a":
            await anyio.sleep(50)
            await (await turn.spawn("b", "go")).outcome()
        await anyio.sleep(1000)

    async with open_session(work, max_concurrent=2, turn_timeout=100.0) as control:
        began = anyio.current_time()
        outcome = await (await control.spawn("/root", "a", "go")).outcome()
        assert (outcome.status, outcome.cause) == (TurnState.INTERRUPTED, Cause.TIMED_OUT)
        assert anyio.current_time() - began == pytest.approx(100, abs=0.1), "waiting counts"
        assert (await control.status("/root/a/b")).status is TurnState.RUNNING
        await anyio.sleep(50.1)
        child = (await control.status("/root/a/b")).outcome
        assert child is not None
        assert child.cause is Cause.TIMED_OUT
        assert counts(control) == {"resident": 2}


async def test_requester_of_a_turn_that_takes_too_long_is_told_though_interrupts_are_not(open_session: Open) -> None:
    async def work(turn: Turn) -> Any:
        if turn.path == "/root/a/b":
            await turn.sleep(1000)
        if turn.number == 1:
            await turn.spawn("b", "go")
            return "asked"
        return [mail.outcome.cause.name for mail in turn.mail if mail.outcome is not None]

    async with open_session(work, max_concurrent=2, turn_timeout=100.0, notify_interrupted=False) as control:
        await (await control.spawn("/root", "a", "go")).outcome()
        await anyio.sleep(101)
        again = await control.follow_up("/root/a", "what came of it?")
        assert ending(await again.outcome()) == completed(["TIMED_OUT"])


# Attempts


async def test_turn_whose_thread_dies_is_tried_again_with_the_same_mail(open_session: Open) -> None:
    seen: list[tuple[int, int, list[str]]] = []

    class Fragile(Thread):
        async def run(self, turn: Turn) -> str:
            seen.append((turn.number, turn.attempt, [mail.text for mail in turn.mail]))
            if len(seen) == 1:
                raise ThreadLost("gone")
            if len(seen) == 2:
                await anyio.sleep(10)
                seen.append((0, 0, [mail.text for mail in await turn.drain()]))
                raise ThreadLost("gone")
            return "third time"

    async with open_session(Fragile, max_attempts=3) as control:
        handle = await control.spawn("/root", "a", "one")
        await anyio.sleep(5)
        await control.send("/root/a", "two")
        assert ending(await handle.outcome()) == completed("third time")
        assert seen == [(1, 1, ["one"]), (2, 2, ["one"]), (0, 0, ["two"]), (3, 3, ["one", "two"])]
        assert ending(await (await control.follow_up("/root/a", "three")).outcome()) == completed("third time")
        assert seen[-1] == (4, 1, ["three"]), "another end begins to count anew"
        assert control.statistics().loads == 3


async def test_poison_turn_ends_after_its_attempts_and_its_parent_is_told_once(open_session: Open) -> None:
    attempts: list[int] = []

    async def work(turn: Turn) -> Any:
        if turn.path == "/root/a/b":
            attempts.append(turn.attempt)
            raise ThreadLost("poison")
        outcome = await (await turn.spawn("b", "drink")).outcome()
        return [outcome.status.name, outcome.cause.name, outcome.turn, len(await turn.drain())]

    async with open_session(work, max_concurrent=2, max_attempts=3) as control:
        parent = await control.spawn("/root", "a", "go")
        assert ending(await parent.outcome()) == completed(["ERRORED", "THREAD_DIED", 3, 0])
        assert attempts == [1, 2, 3]
        assert await states(control) == {"/root/a": "completed loaded", "/root/a/b": "errored"}


async def test_parent_that_loses_its_thread_while_it_awaits_a_child_is_tried_again_and_gets_the_outcome(
    open_session: Open,
) -> None:
    stage = Stage()

    async def work(turn: Turn) -> Any:
        if turn.path == "/root/a/b":
            return await stage(turn)
        if turn.attempt == 1:
            child = await turn.spawn("b", "go")
            refs.append(child.ref)
            with anyio.move_on_after(5):
                await child.outcome()
            raise ThreadLost("gone")
        return (await (await controls[0].handle(refs[0])).outcome()).result

    refs: list[Any] = []
    controls: list[AgentControl] = []
    async with open_session(work, max_concurrent=3, max_attempts=2) as control:
        controls.append(control)
        parent = await control.spawn("/root", "a", "go")
        scene = await stage.scene("/root/a/b")
        await anyio.sleep(10)
        status = await control.status("/root/a")
        assert (status.turn, status.status) == (2, TurnState.RUNNING)
        scene.end("late, but there")
        assert ending(await parent.outcome()) == completed("late, but there")


async def test_turns_of_a_tree_that_a_crash_ends_are_tried_again_until_all_is_done(open_session: Open) -> None:
    store = MemoryStore()
    runs: list[tuple[str, int]] = []

    async def work(turn: Turn) -> Any:
        runs.append((turn.path, turn.attempt))
        if turn.path == "/root/a/b":
            await anyio.sleep(100)
            return "worked"
        child = await turn.spawn("b", "go", key=f"b of {turn.path}")
        return (await child.outcome()).result

    refs: list[AgentRef] = []

    async def crash() -> None:
        async with open_session(work, store, max_concurrent=2, max_attempts=2) as control:
            refs.append((await control.spawn("/root", "a", "go")).ref)
            await anyio.sleep(10)
            raise KeyError

    with pytest.raises(KeyError):
        await crash()
    async with open_session(work, MemoryStore(store.log), max_concurrent=2, max_attempts=2) as control:
        assert ending(await (await control.handle(refs[0])).outcome()) == completed("worked")
        assert sorted(runs) == [("/root/a", 1), ("/root/a", 2), ("/root/a/b", 1), ("/root/a/b", 2)]


# Withdrawn mail


async def test_withdrawn_request_never_runs_and_its_awaiting_turn_is_told(open_session: Open) -> None:
    stage = Stage()

    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            return await stage(turn)
        busy, queued = await turn.spawn("b", "x"), await turn.spawn("c", "never read")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(withdraw_later, turn, queued)
            outcome = await queued.outcome()
        return [outcome.cause.name, (await busy.outcome()).result]

    async def withdraw_later(turn: Turn, queued: Handle) -> None:
        await anyio.sleep(5)
        await turn.withdraw(queued)

    async with open_session(work, max_concurrent=2) as control:
        parent = await control.spawn("/root", "a", "go")
        scene = await stage.scene("/root/a/b")
        await anyio.sleep(10)
        assert (await control.status("/root/a/c")).unread == 0
        scene.end("worked")
        assert ending(await parent.outcome()) == completed(["WITHDRAWN", "worked"])
        assert ("/root/a/c", 1) not in stage.scenes


async def test_host_withdraws_by_handle_reference_and_number_what_is_unread(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage, max_concurrent=2) as control:
        await control.spawn("/root", "a", "x")
        scene = await stage.scene("/root/a")
        first = await control.follow_up("/root/a", "one")
        second = await control.follow_up("/root/a", "two")
        third = await control.send("/root/a", "three")
        for request in (first, second.ref, third):
            await control.withdraw(request)
            with pytest.raises(MailRead):
                await control.withdraw(request)
        assert (await first.outcome()).cause is (await second.outcome()).cause is Cause.WITHDRAWN
        assert (await control.status("/root/a")).unread == 0
        found = await control.handle(second.ref)
        assert (await found.outcome()).cause is Cause.WITHDRAWN
        scene.end()
        await anyio.wait_all_tasks_blocked()
        assert ("/root/a", 2) not in stage.scenes


@pytest.mark.parametrize("restarted", [False, True])
async def test_answers_that_no_end_of_a_turn_gives_are_found_by_reference(open_session: Open, restarted: bool) -> None:
    """Mail that was withdrawn, or demoted in an interrupted tree. A turn that is returned answers nothing."""
    stage, store = Stage(), MemoryStore()
    refs: dict[str, AgentRef] = {}

    async def look(control: AgentControl) -> None:
        for name, cause in (("withdrawn", Cause.WITHDRAWN), ("demoted", Cause.NOT_STARTED)):
            outcome = await (await control.handle(refs[name])).outcome()
            assert (outcome.status, outcome.cause) == (TurnState.INTERRUPTED, cause)
        returned = await control.handle(refs["returned"])
        if restarted:
            assert (await returned.outcome()).cause is Cause.SHUT_DOWN
        else:
            assert not returned.is_answered

    async with open_session(stage, store, max_concurrent=4, max_attempts=3) as control:
        parent = await control.spawn("/root", "a", "x")
        refs["returned"] = (await control.spawn("/root", "b", "x")).ref
        await control.spawn("/root/a", "c", "x")
        scenes = [await stage.scene(path) for path in ("/root/b", "/root/a", "/root/a/c")]
        withdrawn = await control.follow_up("/root/b", "x")
        await control.withdraw(withdrawn)
        refs["withdrawn"] = withdrawn.ref
        refs["demoted"] = (await control.follow_up("/root/a/c", "x", sender=parent.id)).ref
        await control.interrupt("/root/a", subtree=True)
        scenes[0].end(ThreadLost("gone"))
        await stage.scene("/root/b", 2)
        if not restarted:
            await look(control)
    if restarted:
        async with open_session(stage, MemoryStore(store.log), max_concurrent=4, max_attempts=3) as control:
            await look(control)


async def test_withdraw_of_mail_that_is_read_foreign_or_unknown_is_refused(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage, max_concurrent=4) as control:
        read = await control.spawn("/root", "a", "x")
        await control.spawn("/root", "b", "x", sender=read.id)
        turn = (await stage.scene("/root/a")).turn
        foreign = await control.send("/root/b", "of the host")
        own = await turn.send("/root/b", "of a")
        with pytest.raises(MailRead) as is_read:
            await control.withdraw(read)
        with pytest.raises(NotSender) as is_foreign:
            await turn.withdraw(foreign)
        with pytest.raises(UnknownMail) as is_unknown:
            await control.withdraw(99)
        assert (is_read.value.mail, is_foreign.value.mail, is_unknown.value.mail) == (read.ref.mail, foreign, 99)
        wrong: list[Any] = ["1", 1.5, True, None, "/root/b"]
        for request in wrong:
            with pytest.raises(TypeError, match="a request is a handle, a reference or the number of a mail"):
                await control.withdraw(request)
        (await stage.scene("/root/b")).end()
        await anyio.wait_all_tasks_blocked()
        notice = own + 1
        with pytest.raises(NotSender):
            await control.withdraw(notice)
        await turn.withdraw(own)
        assert (await control.status("/root/a")).unread == 1
        assert (await control.status("/root/b")).unread == 1


# Interrupts of subtrees


async def test_interrupt_of_a_subtree_stops_every_turn_in_it_and_wakes_none(open_session: Open) -> None:
    stage = Stage()

    async def work(turn: Turn) -> Any:
        if turn.path.startswith("/root/a") and turn.path.count("/") < 4:
            return (await (await turn.spawn("b", "go")).outcome()).result
        return await stage(turn)

    async with open_session(work, max_concurrent=2, notify_interrupted=True) as control:
        top = await control.spawn("/root", "a", "go")
        other = await control.spawn("/root", "c", "go")
        scene = await stage.scene("/root/a/b/b")
        stopped = await control.interrupt("/root/a", subtree=True)
        assert stopped.previous is TurnState.WAITING
        assert stopped.paths == ("/root/a", "/root/a/b", "/root/a/b/b")
        assert (await top.outcome()).cause is Cause.INTERRUPTED
        await anyio.wait_all_tasks_blocked()
        assert scene.was_cancelled
        (await stage.scene("/root/c")).end("not touched")
        assert ending(await other.outcome()) == completed("not touched")
        assert [(s.path, s.status.name, s.turn) for s in await control.list()] == [
            ("/root", "NEW", 0),
            ("/root/a", "INTERRUPTED", 1),
            ("/root/a/b", "INTERRUPTED", 1),
            ("/root/a/b/b", "INTERRUPTED", 1),
            ("/root/c", "COMPLETED", 1),
        ]


async def test_interrupt_of_a_subtree_by_a_turn_is_refused_for_itself_and_the_root(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        await control.spawn("/root", "a", "x")
        await control.spawn("/root/a", "b", "x")
        turn = (await stage.scene("/root/a/b")).turn
        for target, refusal in (("/root/a/b", SelfRefused), ("/root/a", SelfRefused), ("/root", RootRefused)):
            with pytest.raises(refusal):
                await turn.interrupt(target, subtree=True)
        assert (await turn.interrupt("/root/a")).paths == ("/root/a",)
        (await stage.scene("/root/a/b")).end()


# The end of the session


async def test_shutdown_lets_a_tree_that_awaits_finish_within_its_grace(open_session: Open) -> None:
    async def work(turn: Turn) -> Any:
        if turn.path.count("/") > 3:
            await anyio.sleep(10)
            return "leaf"
        return (await (await turn.spawn("kid", "go")).outcome()).result

    async with open_session(work, max_concurrent=2) as control:
        handle = await control.start("/root", "go")
        await anyio.sleep(5)
        began = anyio.current_time()
        result = await control.shutdown(60)
        assert anyio.current_time() - began == pytest.approx(5, abs=0.1)
        assert ending(await handle.outcome()) == completed("leaf")
        assert (sorted(result.done), result.interrupted) == ([0, 1, 2, 3], ())


async def test_outcome_of_a_turn_that_does_not_start_any_more_is_refused_with_session_draining(
    open_session: Open,
) -> None:
    stage = Stage()

    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            return await stage(turn)
        await turn.spawn("b", "go")
        queued = await turn.spawn("c", "go")
        with pytest.raises(SessionDraining):
            await queued.outcome()
        return "goes on with a slot"

    async with open_session(work, max_concurrent=2) as control:
        parent = await control.spawn("/root", "a", "go")
        scene = await stage.scene("/root/a/b")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(control.shutdown, 60)
            await anyio.sleep(10)
            assert counts(control) == {"slots": 1, "resident": 2, "queued": 1}
            scene.end()
        assert ending(await parent.outcome()) == completed("goes on with a slot")
        assert (await control.status("/root/a/c")).unread == 1


async def test_shutdown_interrupts_waiting_and_lending_turns_when_its_grace_is_over(open_session: Open) -> None:
    async def work(turn: Turn) -> Any:
        if turn.path == "/root/a":
            return (await (await turn.spawn("b", "go")).outcome()).result
        await turn.sleep(1000)
        return "not reached"

    async with open_session(work, max_concurrent=2) as control:
        handle = await control.spawn("/root", "a", "go")
        await anyio.sleep(5)
        result = await control.shutdown(10)
        assert (result.done, sorted(result.interrupted)) == ((), [1, 2])
        assert (await handle.outcome()).cause is Cause.SHUT_DOWN
        assert counts(control) == {}


async def test_session_left_by_an_exception_while_turns_wait_and_lend_ends_their_code(open_session: Open) -> None:
    ended: list[str] = []

    async def work(turn: Turn) -> Any:
        try:
            if turn.path == "/root/c":
                await turn.sleep(1000)
            elif turn.path.count("/") < 4:
                await (await turn.spawn("b", "go")).outcome()
            await anyio.sleep(1000)
        finally:
            ended.append(turn.path)

    store = MemoryStore()
    handles: list[Handle] = []

    async def crash() -> None:
        async with open_session(work, store, max_concurrent=2) as control:
            handles.append(await control.spawn("/root", "a", "go"))
            await control.spawn("/root", "c", "go")
            await anyio.sleep(10)
            assert counts(control)["waiting"] == 2
            raise KeyError

    with pytest.raises(KeyError):
        await crash()
    assert "/root/a" in ended
    assert len(ended) == 3
    with pytest.raises(SessionClosed):
        await handles[0].outcome()
    async with open_session(echo, MemoryStore(store.log), max_concurrent=2) as control:
        await anyio.wait_all_tasks_blocked()
        assert "waiting" not in counts(control)


async def test_code_that_gives_up_its_wait_while_the_session_is_left_does_not_hang(open_session: Open) -> None:
    """The cancellation of the task arrives while the turn has no slot, and none will come."""

    async def work(turn: Turn) -> Any:
        if turn.path == "/root/b":
            await anyio.sleep(1000)
        with anyio.move_on_after(5):
            await turn.sleep(1000)
        return "not reached"

    async def crash() -> None:
        async with open_session(work, max_concurrent=2) as control:
            await control.spawn("/root", "a", "go")
            await control.spawn("/root", "b", "go")
            await anyio.sleep(10)
            assert (await control.status("/root/a")).status is TurnState.RETURNING
            raise KeyError

    with pytest.raises(KeyError):
        await crash()


# Context variables

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("of_the_host", default="none")


async def test_context_variables_of_the_opener_reach_turns_only_if_they_are_passed() -> None:
    class Seeing(Thread):
        def __init__(self, agent: Any) -> None:
            super().__init__(agent)
            self.seen = [VARIABLE.get()]

        async def load(self, history: tuple[Any, ...]) -> None:
            self.seen.append(VARIABLE.get())
            VARIABLE.set("of a load")

        async def run(self, turn: Turn) -> Any:
            self.seen.append(VARIABLE.get())
            VARIABLE.set("of a turn")
            return list(self.seen)

    VARIABLE.set("of the host")
    for context, value in ((None, "none"), (contextvars.copy_context(), "of the host")):
        async with AgentControl.open(MemoryStore(), Seeing, context=context) as control:
            handles = [await control.start("/root", "go"), await control.spawn("/root", "a", "go")]
            for handle in handles:
                assert ending(await handle.outcome()) == completed([value] * 3)
                again = await control.follow_up(handle, "go")
                assert ending(await again.outcome()) == completed([value] * 4)
        assert VARIABLE.get() == "of the host"
