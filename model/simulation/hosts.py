"""Plays the embedding program in a simulation: a few clients that call any verb, and are cancelled in the middle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from statemachine.core.events import HOST
from statemachine.core.machines import TurnState
from statemachine.core.refusals import Refusal
from statemachine.runtime import AgentControl, Handle, KeyReused, Target
from statemachine.stores.errors import StoreError

from . import schedule as simulation_schedule
from .delegation import withdraw
from .work import check_history, late, note_closed
from .world import Request, Told, World, ask, cancelled_at_random, cancelled_past_shields, learn, refusable

OPERATIONS_MAX = 6
HOST_KEYED_PERCENT = 50
PAUSE_S = 10.0
"""How long the process stands still."""


async def host(world: World, control: AgentControl, number: int, may_shut_down: bool) -> None:
    """Plays one client, for a while."""
    for _ in range(1 + int(world.rng.random() * OPERATIONS_MAX)):
        await world.pause()
        operation = world.choose(OPERATIONS)
        if may_shut_down and world.chance(2):
            operation = shuts_down
        world.at_work[number] = operation.__name__
        if world.chance(8):
            if await cancelled_past_shields(world, operation(world, control)):
                world.note("caller cancelled past shields")
        elif world.chance(20):
            if await cancelled_at_random(world, lambda one=operation: one(world, control)):  # type: ignore[misc]
                world.note("caller cancelled")
        else:
            await operation(world, control)
        del world.at_work[number]


async def spawns(world: World, control: AgentControl) -> None:
    parent = world.target() if world.rng.random() < 0.5 else "/root"
    tree = world.choose((0, 0, 1, 2, 3))
    await send_request(world, control, world.request("spawn", HOST, parent, keyed(world), tree))


async def sends(world: World, control: AgentControl) -> None:
    await send_request(world, control, world.request("send", HOST, world.target(), keyed(world)))


async def follows_up(world: World, control: AgentControl) -> None:
    await send_request(world, control, world.request("follow_up", HOST, world.target(), keyed(world)))


async def starts(world: World, control: AgentControl) -> None:
    target = "/root" if world.rng.random() < 0.6 else world.target()
    await send_request(world, control, world.request("start", HOST, target, keyed(world)))


def keyed(world: World) -> bool:
    return world.rng.random() * 100 < HOST_KEYED_PERCENT


async def repeats(world: World, control: AgentControl) -> None:
    """Repeats a request with its key, answered or not."""
    if world.lost and world.rng.random() < 0.7:
        request = world.lost.pop(int(world.rng.random() * len(world.lost)))
    else:
        told = [r for r in world.requests if r.key is not None and r.told is Told.YES and r.sender == HOST]
        if not told:
            return
        request = world.choose(told)
    if request.sender != HOST and world.inside.session.agents[request.sender].identity.name != "OPEN":
        return
    await send_request(world, control, request)


async def asks_again_at_once(world: World, control: AgentControl) -> None:
    """Makes a request with a key, is cancelled past every shield, and repeats it before it is known what came of it."""
    request = world.request(world.choose(("send", "follow_up", "start")), HOST, world.target(), True)
    await cancelled_past_shields(world, send_request(world, control, request))
    if request in world.lost:
        world.lost.remove(request)
        world.note("request repeated as soon as its caller was cancelled")
        await send_request(world, control, request)


async def send_request(world: World, control: AgentControl, r: Request) -> None:
    """Makes the request, and may wait for the outcome."""
    call: Callable[[], Awaitable[Handle | int]]
    if r.verb == "spawn":

        def call() -> Awaitable[Handle | int]:
            return control.spawn(r.target, r.name, r.text, r.settings, role=r.role, sender=r.sender, key=r.key)
    elif r.verb == "send":

        def call() -> Awaitable[Handle | int]:
            return control.send(r.target, r.text, sender=r.sender, key=r.key)
    elif r.verb == "follow_up":

        def call() -> Awaitable[Handle | int]:
            return control.follow_up(r.target, r.text, sender=r.sender, key=r.key)
    else:

        def call() -> Awaitable[Handle | int]:
            return control.start(r.target, r.text, key=r.key)

    handle = await ask(world, r, call)
    if handle is not None and world.rng.random() < 0.5:
        await learn(world, handle, world.choose((0.1, 1.0, 5.0)))


async def misuses_a_key(world: World, control: AgentControl) -> None:
    """Makes another request with a used key."""
    told = [r for r in world.requests if r.key is not None and r.told is Told.YES]
    if not told:
        return
    text = f"m{world.number()}"
    try:
        mail = await control.send("/root", text, key=world.choose(told).key)
    except KeyReused:
        world.note("key reused for another request")
    except (Refusal, StoreError) as error:
        world.note(f"refused {type(error).__name__}")
    else:
        world.blame(f"a key that was used for another request was taken again, for mail {mail}")


async def asks_for_an_outcome(world: World, control: AgentControl) -> None:
    """Finds the handle of an earlier request, of this opening or one before."""
    told = [r for r in world.requests if r.ref is not None and r.told is Told.YES and r.is_trigger]
    if not told:
        return
    ref = world.choose(told).ref
    assert ref is not None
    handle = await refusable(world, lambda: control.handle(ref))
    if handle is not None:
        world.note("handle by reference")
        await learn(world, handle, world.choose((0.1, 1.0)))


async def interrupts(world: World, control: AgentControl) -> None:
    await interrupt(world, control, world.target())


async def interrupt(world: World, control: AgentControl, target: Target) -> None:
    answer = await refusable(world, lambda: control.interrupt(target))
    if answer is not None and not answer.previous.is_idle:
        world.note(f"interrupted while {answer.previous.name}")


async def interrupts_a_subtree(world: World, control: AgentControl) -> None:
    if await refusable(world, lambda: control.interrupt(world.target(), subtree=True)):
        world.note("subtree interrupted")


async def withdraws(world: World, control: AgentControl) -> None:
    """Something that was asked for, mostly what waits for a turn that has not started."""
    told = [r.ref for r in world.requests if r.told is Told.YES and r.ref is not None]
    agents = world.inside.session.agents
    waiting = [ref for ref in told if agents[ref.id].status in (TurnState.QUEUED, TurnState.STARTING)]
    unread = [ref for ref in waiting if any(mail.mail == ref.mail for mail in agents[ref.id].mailbox)]
    if told:
        ref = world.choose(unread if unread and world.chance(80) else told)
        await withdraw(world, ref.mail, lambda: control.withdraw(ref))


async def forgets(world: World, control: AgentControl) -> None:
    """A closed agent; or, which is refused, one that is open."""
    closed = [a.id for a in world.inside.session.agents if a.identity.name == "CLOSED"]
    target = world.choose(closed) if closed else world.target()
    forgotten = await refusable(world, lambda: control.forget(target))
    if forgotten is not None:
        world.note("forgotten")
        if not world.disk.forgotten.issuperset(forgotten.agents):
            world.blame(f"agents {forgotten.agents} were told to be forgotten, and the log does not say so")


async def regrets(world: World, control: AgentControl) -> None:
    """Asks for a turn and interrupts it, before it is known whether it has begun."""
    request = world.request("start", HOST, world.target(), keyed(world))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send_request, world, control, request)
        for _ in range(int(world.rng.random() * 6)):
            await checkpoint()
        await interrupt(world, control, request.target)


async def closes(world: World, control: AgentControl) -> None:
    note_closed(world, await refusable(world, lambda: control.close(world.target())))


async def resumes(world: World, control: AgentControl) -> None:
    closed = [a.id for a in world.inside.session.agents if a.identity.name == "CLOSED"]
    target = world.choose(closed) if closed and world.rng.random() < 0.8 else world.target()
    if await refusable(world, lambda: control.resume(target)):
        world.note("resumed")


async def looks(world: World, control: AgentControl) -> None:
    found = await refusable(world, control.list)
    if found:
        for status in found:
            if status.agent and status.agent not in world.disk.spawned and not world.crashed:
                world.blame(f"the list shows {status.path}, which is not in the log")
    await refusable(world, lambda: control.status(world.target()))
    control.statistics()


async def reads(world: World, control: AgentControl) -> None:
    agent = world.inside.session.agents[int(world.rng.random() * len(world.inside.session.agents))].id
    history = await refusable(world, lambda: control.history(agent))
    if history is not None:
        check_history(world, agent, history)


async def calls_an_old_turn(world: World, _: AgentControl) -> None:
    over = [turn for turn in world.old_turns if turn.over]
    if over:
        await late(world, world.choose(over))


async def stands_still(world: World, _: AgentControl) -> None:
    """The process is stopped, for longer than most bounds, and goes on."""
    world.note("process stood still")
    simulation_schedule.stand_still(PAUSE_S)


async def shuts_down(world: World, control: AgentControl) -> None:
    answer = await refusable(world, lambda: control.shutdown(world.choose((0.0, 0.2, 2.0))))
    if answer is not None:
        world.note("shut down by a host")


OPERATIONS: tuple[Callable[[World, AgentControl], Coroutine[Any, Any, None]], ...] = (
    *(spawns, spawns, spawns, spawns, follows_up, follows_up, follows_up, sends, starts, starts),
    *(
        repeats,
        repeats,
        repeats,
        asks_again_at_once,
        asks_again_at_once,
        misuses_a_key,
        asks_for_an_outcome,
        interrupts,
        regrets,
        regrets,
        closes,
        resumes,
    ),
    *(interrupts_a_subtree, withdraws, withdraws, closes, forgets, looks, reads, calls_an_old_turn, stands_still),
)
