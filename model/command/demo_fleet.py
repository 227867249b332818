"""Shows a fleet on one machine, to be watched: a database, three workers, callers, a kill, a pause and a restart.

It is the campaign of `crash --fleet` with one blow of each kind, and with a line for each moment. The sessions are
judged in the end, as they are there.
"""

from __future__ import annotations

import time
from functools import partial

import anyio
from rich.console import Console

from statemachine.stores.postgres.dsn import with_session

from ..crashes import fleet as fleets
from ..crashes.fleet import Blow, Fleet, FleetResult

STEP_S = 0.5
WORDS = {
    Blow.KILL: "a worker is killed: its connection ends, and the others claim its sessions",
    Blow.PAUSE: f"a worker is stopped for longer than its ttl of {fleets.TTL:g} s, and woken: it is fenced by then",
    Blow.RESTART: "the database is ended at once, and started again",
}


class View:
    """Prints what is seen, with the seconds since it began."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.begun = time.monotonic()

    def line(self, text: str, style: str = "") -> None:
        """Prints one moment."""
        self.console.print(
            f"{time.monotonic() - self.begun:5.1f} s  {text}", style=style, markup=False, highlight=False
        )


async def watch(fleet: Fleet, view: View) -> None:
    """Prints again and again how many sessions each worker has."""
    while True:
        await anyio.sleep(STEP_S)
        try:
            held = [
                (worker.where.rpartition(":")[2], len(await anyio.to_thread.run_sync(fleet.sessions_of, worker)))
                for worker in [*fleet.workers]
            ]
        except Exception as error:  # the database is away, and what is watched goes on
            view.line(f"the database cannot be asked ({type(error).__name__})")
            continue
        bars = [f"{where:>5} {'#' * count:<12} {count:2}" for where, count in held]
        view.line(f"{'   '.join(bars)}   {len(fleet.result.told):,} answers")


async def play(fleet: Fleet, view: View) -> None:
    """Has callers ask, and one blow of each kind fall."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, fleet, view)
        await anyio.sleep(2 * STEP_S)
        await fleet.run([Blow.KILL, Blow.PAUSE, Blow.RESTART], STEP_S * 3, lambda blow: view.line(WORDS[blow], "bold"))
        tasks.cancel_scope.cancel()


def run(console: Console) -> int:
    """Plays it. Returns the exit code: 1 if something was lost."""
    result, view = FleetResult(len(Blow)), View(console)

    def show(so_far: FleetResult) -> None:
        blow = next(reversed(so_far.first_answers))
        view.line(f"a session that was struck answers again, after {so_far.first_answers[blow][-1]:.2f} s", "bold")

    with fleets.fleet(result, 1, show) as fleet:
        view.line(
            f"{fleets.WORKERS} workers, {fleets.SESSIONS} sessions, {fleets.CALLERS} callers; a worker is its port"
        )
        anyio.run(play, fleet, view)
        result.failures += fleets.judge(partial(with_session, fleet.dsn), result.told)
    for failure in result.failures:
        view.line(str(failure), "bold red")
    view.line(f"every answer is in the sessions, once: {len(result.told):,}" if not result.failures else "FAILED")
    return int(bool(result.failures))
