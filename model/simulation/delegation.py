"""Code that delegates, as people write it: turns that ask other agents for work and await what comes of it.

Each action is one way to do so: one by one, gathered, all at once, as they are completed, within a time, in `finally`,
shielded, cancelled in the middle, beside a task that fails; and what else gives a slot to others meanwhile: `lend`,
`sleep`, `wait` for requests. An agent with the settings `{"tree": n}` delegates to a tree of n levels below it, so that
more turns wait than there are slots.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

import anyio
from anyio.lowlevel import checkpoint

from statemachine.core.events import WaitMode
from statemachine.core.refusals import Refusal
from statemachine.runtime import Handle, Turn

from .observed import ENDS_OF_WAITS, await_outcome, awaited, check_slots, waiting, was_told
from .world import Told, World, ask, cancelled_at_random, dawdle, refusable

Await = Callable[[World, Turn, Sequence[Handle]], Awaitable[None]]
"""A way to await several handles."""


class TaskFailed(Exception):
    """What a task of a turn raises beside others that await."""


# Asking


async def delegate(world: World, turn: Turn, tree: int = 0) -> Handle | None:
    """Asks a new child for work; if that is refused, a child that there is, or another agent."""
    r = world.request("spawn", turn.agent.id, turn.agent.id, world.chance(30), tree)
    handle = await ask(world, r, lambda: turn.spawn(r.name, r.text, r.settings, role=r.role, key=r.key))
    if handle is None and not turn.over:
        children = world.inside.session.agents[turn.agent.id].children
        target = world.choose(children) if children and world.chance(70) else world.target(turn.agent.id)
        f = world.request("follow_up", turn.agent.id, target, world.chance(30))
        handle = await ask(world, f, lambda: turn.follow_up(f.target, f.text, key=f.key))
    return handle


async def delegate_some(world: World, turn: Turn, tree: int = 0) -> list[Handle]:
    """Asks up to three for work."""
    asked = [await delegate(world, turn, tree) for _ in range(world.choose((1, 2, 2, 3)))]
    return [handle for handle in asked if handle is not None]


async def tree_below(world: World, turn: Turn) -> None:
    """An agent of a tree delegates to the next level of it, and awaits that."""
    settings = turn.settings
    if isinstance(settings, dict) and settings.get("tree", 0) and not world.calm.is_set():
        handles = await delegate_some(world, turn, settings["tree"] - 1)
        world.note("tree")
        await world.choose(AWAITS)(world, turn, handles)


# Awaiting


async def one_by_one(world: World, turn: Turn, handles: Sequence[Handle]) -> None:
    for handle in handles:
        await await_outcome(world, turn, handle)
        if world.chance(20):  # again, which returns at once
            await await_outcome(world, turn, handle)


async def gathered(world: World, turn: Turn, handles: Sequence[Handle]) -> None:
    async with anyio.create_task_group() as tasks:
        for handle in handles:
            tasks.start_soon(await_outcome, world, turn, handle)
        if world.chance(50):
            await dawdle(world.rng)


async def all_at_once(world: World, turn: Turn, handles: Sequence[Handle]) -> None:
    outcomes = await awaited(world, turn, "all outcomes", lambda: turn.outcomes(*handles))
    for handle, outcome in zip(handles, outcomes or (), strict=outcomes is not None):
        was_told(world, turn, handle, outcome)


async def as_completed(world: World, turn: Turn, handles: Sequence[Handle]) -> None:
    async with aclosing(turn.as_completed(*handles)) as outcomes:
        given = 0
        while True:
            outcome = await awaited(world, turn, "the next outcome", lambda: anext(outcomes, None))
            if outcome is None:
                break
            given += 1
            if given > len(handles):
                world.blame(f"as_completed of {len(handles)} handles gave {given} outcomes")
            if world.chance(15):
                break
            await world.pause()
            check_slots(world, turn)


async def within_time(world: World, turn: Turn, handles: Sequence[Handle]) -> None:
    with anyio.move_on_after(world.choose((0.0, 0.001, 0.05, 0.5, 2.0))) as scope:
        await world.choose((one_by_one, gathered, all_at_once))(world, turn, handles)
    if scope.cancelled_caught:
        world.note("outcome given up after a time")
    check_slots(world, turn)


async def in_finally(world: World, turn: Turn, handles: Sequence[Handle]) -> None:
    try:
        await world.pause()
        if world.chance(30):
            raise TaskFailed("before its children are done")
    finally:
        world.note("outcome awaited in finally")
        await one_by_one(world, turn, handles)


async def shielded(world: World, turn: Turn, handles: Sequence[Handle]) -> None:
    with anyio.CancelScope(shield=True):
        for handle in handles:
            await await_outcome(world, turn, handle)
    check_slots(world, turn)


async def cancelled_in_the_middle(world: World, turn: Turn, handles: Sequence[Handle]) -> None:
    one = world.choose((one_by_one, gathered, all_at_once))
    if await cancelled_at_random(world, lambda: one(world, turn, handles)):
        world.note("outcome cancelled in the middle")
    check_slots(world, turn)


async def beside_a_failure(world: World, turn: Turn, handles: Sequence[Handle]) -> None:
    async def fails() -> None:
        await world.pause()
        raise TaskFailed("beside others")

    world.note("task failed beside others that await")
    async with anyio.create_task_group() as tasks:
        for handle in handles:
            tasks.start_soon(await_outcome, world, turn, handle)
        tasks.start_soon(fails)


AWAITS: tuple[Await, ...] = (
    *(one_by_one, one_by_one, gathered, gathered, all_at_once, as_completed, within_time, in_finally, shielded),
    *(cancelled_in_the_middle, beside_a_failure),
)


# Actions


async def delegates(world: World, turn: Turn) -> None:
    handles = await delegate_some(world, turn)
    await world.choose(AWAITS)(world, turn, handles)


async def awaits_what_others_asked(world: World, turn: Turn) -> None:
    """A handle of the host or of another turn."""
    if world.handles:
        await within_time(world, turn, [world.choose(world.handles)])


async def lends(world: World, turn: Turn) -> None:
    """A person is asked, or a tool runs: for some time, or until the code gives up."""

    async def block() -> None:
        async with turn.lend():
            await world.pause()
            if world.chance(30) and world.handles:
                await await_outcome(world, turn, world.choose(world.handles))
            elif world.chance(40):
                await world.calm.wait()

    with anyio.move_on_after(world.choose((0.001, 0.05, 0.5, 2.0))):
        await awaited(world, turn, "the end of a lending", block)
        world.note("slot lent by choice")
    check_slots(world, turn)


async def lends_twice(world: World, turn: Turn) -> None:
    """Two tasks of the turn lend, and one of them works a little between."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lends, world, turn)
        await world.pause()
        check_slots(world, turn)
        tasks.start_soon(sleeps_in_the_session, world, turn)


async def sleeps_in_the_session(world: World, turn: Turn) -> None:
    seconds = world.choose((0.0, 0.001, 0.2, 1.0))
    await awaited(world, turn, "the end of a sleep", lambda: turn.sleep(seconds))
    world.note("slept in the session")


async def waits_for_requests(world: World, turn: Turn) -> None:
    """`wait` with all that it takes."""
    requests = tuple([world.choose(world.handles) for _ in range(world.choose((0, 1, 2)))] if world.handles else ())
    targets = tuple([world.target(turn.agent.id) for _ in range(world.choose((0, 0, 1)))])
    mode, mail = world.choose(tuple(WaitMode)), world.chance(50)
    timeout = world.choose((None, 0.0, 0.2, 1.0))
    try:
        with waiting(world, turn, "requests"):
            end = await turn.wait(timeout, targets, requests=requests, mode=mode, mail=mail)
    except Refusal as refusal:
        world.note(f"refused {type(refusal).__name__}")
        if not isinstance(refusal, ENDS_OF_WAITS):
            await checkpoint()
    else:
        world.note(f"wait for requests ended by {end.name}")


async def withdraws(world: World, turn: Turn) -> None:
    """Something that this agent has asked for, or (it is refused) another."""
    mine = [r for r in world.requests if r.told is Told.YES and r.sender == turn.agent.id]
    others = [r for r in world.requests if r.told is Told.YES]
    found = mine if mine and world.chance(80) else others
    if found:
        request = found[-1] if world.chance(60) else world.choose(found)
        assert request.ref is not None
        mail = request.ref.mail
        await withdraw(world, mail, lambda: turn.withdraw(mail))


async def withdraw(world: World, mail: int, call: Callable[[], Awaitable[None]]) -> None:
    """Takes a mail back: if that was answered, it is durable, and no turn has read the mail or will."""

    async def told() -> bool:
        await call()
        return True

    if await refusable(world, told):
        world.note("withdrawn")
        if mail not in world.disk.withdrawn:
            world.blame(f"mail {mail} was withdrawn, and the log does not say so")
        world.withdrawn.add(mail)


async def interrupts_a_subtree(world: World, turn: Turn) -> None:
    if await refusable(world, lambda: turn.interrupt(world.target(turn.agent.id), subtree=True)):
        world.note("subtree interrupted")


ACTIONS: tuple[Callable[[World, Turn], Awaitable[None]], ...] = (
    *(
        delegates,
        delegates,
        delegates,
        delegates,
        delegates,
        delegates,
        awaits_what_others_asked,
        awaits_what_others_asked,
        lends,
        lends,
    ),
    *(lends_twice, sleeps_in_the_session, waits_for_requests, waits_for_requests, withdraws, interrupts_a_subtree),
)
