"""Plays the events of the model on the product: real `Leases`, the real statements of appends, a real database.

What an event is here:

- `tick`: the heartbeats in the table of workers become older by `TICK_S` seconds of the database. Nothing waits: the
  `ttl` that workers are given is as many ticks and half of one, so a walk may take minutes of true time.
- `poll` and `balance`: `Leases.poll`, in a thread, which is stopped before it claims, and goes on with `balance`. A
  worker without a connection makes one first and joins.
- `open`: `claiming.leased`, which is how a store opens what a host has claimed. The snapshot that it may write is not.
- `append`: one of the three statements of `statements.write`, by what it is about, in a transaction that stays open
  until `commit`. So the row is locked in between as it is while the statement runs.
- `commit`: the same transaction ends. What callers left as requests and has become work is dropped.
- `unload`: `Leases.unload`, then what a store and a host do when they leave a session: `release` and `give_back`.
- `crash`, `cut`: the connection of the worker ends, and the server has noticed. A crash also rolls back its appends, as
  the end of their connections would. `restart`: the server ends all connections but the one that looks.
- `pause`: nothing is called.
- What a host decides, which sessions it gives away or leaves, is the model's choice; a handover is `release` and
  `give_back`. Every other ask leaves a request.

`seen` reads all of it back: rows of the database, with what the processes believe, as a `World` of the model.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import define, field

from statemachine.core.config import SessionConfig
from statemachine.hosting import leases
from statemachine.hosting.directory import Claimed, Poll, Where
from statemachine.hosting.leases import Leases
from statemachine.hosting.machines import LeaseState, WorkerState
from statemachine.stores.errors import SessionInUse, StoreError
from statemachine.stores.postgres import claiming, driver, schema, statements
from statemachine.stores.postgres.claiming import Claim, Lease
from statemachine.stores.postgres.dsn import dsn_of, with_session
from statemachine.stores.postgres.statements import Owned
from statemachine.stores.protocol import Entry, Receipt, Write
from statemachine.stores.rows import encode_items

from .world import NONE, Aim, Append, Event, Flight, Hold, Life, Link, Phase, Scope, Session, Worker, World

if TYPE_CHECKING:
    from psycopg import Connection

    Rows = Connection[tuple[Any, ...]]

TICK_S = 1000
"""Seconds of a tick."""
SHOWN = "conformance"
TABLES = ("sessions", "log", "agents", "keys", "workers", "asks")
SESSIONS = """
    SELECT s.id, s.name, s.wanted, s.worker, s.epoch, s.asked,
        ARRAY(SELECT convert_from(l.data, 'UTF8') FROM statemachine.log AS l WHERE l.session = s.id ORDER BY l.position)
    FROM statemachine.sessions AS s
"""
WORKERS = """
    SELECT w.id, w.draining, extract(epoch FROM clock_timestamp() - w.beat)::float8,
        EXISTS (SELECT FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.granted AND l.mode = 'ExclusiveLock'
            AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
            AND (l.classid::bigint << 32 | l.objid::bigint) = w.id)
    FROM statemachine.workers AS w
"""
AGE = "UPDATE statemachine.workers SET beat = beat - make_interval(secs => %s)"
END_ALL = """
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
REQUESTS = "SELECT id, session, request FROM statemachine.asks WHERE session = ANY (%s) ORDER BY id"
SAID = re.compile(r'"([A-Z]+) (\d+) (\d+) (\d+)"')


class Unknown(Exception):
    """The database holds, or a statement does, what the model has no word for."""


class Stepped(Leases):
    """Leases whose poll stops before it claims."""

    def __init__(self, database: str, capacity: int, ttl: float) -> None:
        super().__init__(database, SHOWN, capacity, ttl)
        self.most = 0
        """How many it is about to claim; 0: it does not stop before that."""
        self.found: Poll | None = None
        self.error: Exception | None = None
        self._thread: threading.Thread | None = None
        self._stopped, self._go = threading.Semaphore(0), threading.Semaphore(0)

    def begin(self, held: Sequence[int], draining: bool) -> None:
        """Polls, until it would claim."""
        self.most, self.found, self.error = 0, None, None
        self._thread = threading.Thread(target=self._polled, args=(held, draining), daemon=True)
        self._thread.start()
        self._stopped.acquire()
        if self.error is not None:
            raise self.error

    def finish(self) -> Poll | None:
        """Goes on. Returns what was found; None if the connection is gone."""
        if self.most:
            self.most = 0
            self._go.release()
            self._stopped.acquire()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self.error is not None and not self.connection.closed:
            raise self.error
        return self.found

    def _polled(self, held: Sequence[int], draining: bool) -> None:
        try:
            self.found = self.poll(held, 0, draining)
        except Exception as error:
            self.error = error
        self._stopped.release()

    def _run(self, statement: Any, **values: Any) -> Any:
        if statement == leases.CLAIM:
            self.most = values["most"]
            self._stopped.release()
            self._go.acquire()
        return super()._run(statement, **values)


@define
class Held:
    """What a process has of a session."""

    claimed: Claimed
    owned: Owned | None = None
    seen: int = 0


@define
class Flying:
    """An append in an open transaction."""

    append: statements.Append
    what: Append
    epoch: int
    seen: int


@define
class Process:
    """A worker: what the operating system and its memory have of it."""

    capacity: int
    leases: Stepped | None = None
    numbers: list[int] = field(factory=list[int])
    """Those under which it has joined; the last one is today's."""
    life: Life = Life.RUNNING
    aim: Aim = Aim.SERVE
    is_cut: bool = False
    fair: int = NONE
    most: int = 0
    polled: list[int] = field(factory=list[int])
    """The sessions that it had when it polled."""
    holds: dict[int, Held] = field(factory=dict[int, Held])
    flights: dict[int, Flying] = field(factory=dict[int, Flying])

    @property
    def link(self) -> Link:
        """Its connection, as it was left."""
        return Link.CUT if self.is_cut else Link.LOST if self.leases is None else Link.UP


class Fleet:
    """The workers and sessions of a scope, in a database of their own."""

    def __init__(self, database: str, scope: Scope) -> None:
        """`database` is the DSN of an empty database."""
        self.scope = scope
        self.database = dsn_of(with_session(database, "x")).database
        self.eye = driver.connect(self.database, SHOWN, lock_timeout="30s")
        schema.migrate(self.eye, SHOWN, schema.MIGRATIONS)
        self.lines: dict[tuple[int, int], Rows] = {}
        self.processes: list[Process] = []
        self.ids: dict[str, int] = {}
        self.begin()

    def begin(self) -> None:
        """Makes everything as in the beginning. If callers ask for nothing, sessions are wanted, and that is all."""
        for w, process in enumerate(self.processes):
            self.stop(w)
            process.holds.clear()
        for name in TABLES:
            self.eye.execute(f"DELETE FROM statemachine.{name}")
        self.processes = [Process(capacity) for capacity in self.scope.capacities]
        self.ids = {}
        if self.scope.sessions > 1 or not self.scope.asks:  # otherwise the first ask makes it
            for n in range(self.scope.sessions):
                insert = "INSERT INTO statemachine.sessions (name, wanted) VALUES (%s, %s)"
                self.eye.execute(insert, (name_of(n), not self.scope.asks))

    def close(self) -> None:
        """Ends all connections."""
        for w in range(len(self.processes)):
            self.stop(w)
        for line in (*self.lines.values(), self.eye):
            line.close()

    # Reading it back

    def seen(self) -> World:
        """Returns what there is as a world of the model. Raises `Unknown` for what it has no word for."""
        rows = {row[0]: row for row in self.eye.execute(WORKERS, prepare=True).fetchall()}
        found = {row[1]: row for row in self.eye.execute(SESSIONS, prepare=True).fetchall()}
        self.ids = {name: row[0] for name, row in found.items()}
        workers = tuple(self.worker(process, rows) for process in self.processes)
        sessions = tuple(self.session(n, found.get(name_of(n))) for n in range(self.scope.sessions))
        known = {number for process in self.processes for number in process.numbers}
        if not known.issuperset(rows):
            raise Unknown("a row of a worker that never joined")
        if sum(number in rows for process in self.processes for number in process.numbers) != sum(
            worker.state is not WorkerState.ABSENT for worker in workers
        ):
            raise Unknown("a worker has two rows")
        return World(workers, sessions)

    def worker(self, process: Process, rows: dict[int, Any]) -> Worker:
        """Returns what there is of a worker."""
        row = rows.get(process.numbers[-1]) if process.numbers else None
        link = process.link
        if row is not None and row[3] != (link is Link.UP):
            raise Unknown("the database and a process say different things of a connection")
        state = WorkerState.ABSENT if row is None else WorkerState.DRAINING if row[1] else WorkerState.SERVING
        age = 0 if row is None else min(self.scope.ttl + 1, int(row[2] // TICK_S))
        return Worker(state, age, 0, process.life, link, process.aim, process.fair, process.most, 0)

    def session(self, n: int, row: Any) -> Session:
        """Returns what there is of a session."""
        _, _, wanted, worker, epoch, asked, log = row or (0, "", False, None, 0, 0, [])
        owner = NONE if worker is None else self.worker_of(worker)
        if owner != NONE and not wanted:
            raise Unknown(f"session {n} has an owner and needs none")
        lease = LeaseState.OWNED if owner != NONE else LeaseState.WANTED if wanted else LeaseState.IDLE
        handled, work, writers = 0, int(not self.scope.asks), set[tuple[int, int]]()
        for text in log:
            said = SAID.search(text)
            assert said is not None
            what, count, by, w = said[1], *map(int, said.groups()[1:])
            writers.add((by, w))
            if what == Append.BEGIN.name:
                handled, work = max(handled, count), 1
            elif what == Append.FINISH.name:
                work = 0
        holds = tuple(hold_of(process.holds.get(n)) for process in self.processes)
        flying = (process.flights.get(n) for process in self.processes)
        flights = tuple(None if each is None else Flight(each.what, each.epoch, each.seen) for each in flying)
        return Session(lease, owner, epoch, len(log), work, asked, handled, holds, flights, tuple(sorted(writers)))

    def worker_of(self, number: int) -> int:
        """Returns the worker that joined under this number. Raises `Unknown`."""
        for w, process in enumerate(self.processes):
            if number in process.numbers:
                return w
        raise Unknown(f"a session is owned by {number}, and no worker has that number")

    # Events. `before` is the world of the model, `after` the one that it is to lead to.

    def play(self, event: Event, before: World, after: Callable[[frozenset[int]], World]) -> None:
        """Plays an event. `after` returns the world that it leads to in the model, once it is known which sessions a
        worker has claimed.
        """
        name, w, n = event
        if name == "tick":
            self.eye.execute(AGE, (TICK_S,), prepare=True)
        elif name == "ask":
            count = before.sessions[n].asked + 1
            leases.ask(self.eye, SHOWN, name_of(n), None if count % 2 else b"%d" % count)
        elif name == "restart":
            self.restart()
        elif name == "poll":
            self.poll(w, after(frozenset()).workers[w].fair)
        elif name == "balance":
            self.balance(w, before, after)
        elif n != NONE:
            getattr(self, name)(w, n, before)
        else:
            getattr(self, name)(w)

    def line(self, w: int, n: int) -> Rows:
        """Returns the connection on which a worker writes to a session."""
        found = self.lines.get((w, n))
        if found is None:
            found = self.lines[w, n] = driver.connect(self.database, SHOWN, lock_timeout="1s")
            statements.prepare(found)
        return found

    def poll(self, w: int, fair: int) -> None:
        """Up to where it would claim. `fair` is the share that it should have counted, which it tells in the end."""
        process = self.processes[w]
        is_row = self.is_row(process)
        if process.leases is None:
            process.holds.clear()
            process.leases = Stepped(self.database, process.capacity, (self.scope.ttl + 0.5) * TICK_S)
            process.leases.join(Where(f"w{w}", "token"))
            process.numbers.append(process.leases.worker)
            if process.aim is Aim.END:  # it buries what it was, and ends
                process.leases.begin([], draining=True)
                process.leases.finish()
                self.leave(w)
                return
        elif process.aim is Aim.END and not is_row:  # its sessions are gone, so it has nothing to hand over
            process.holds.clear()
            self.leave(w)
            return
        held = [self.ids[name_of(n)] for n in process.holds]
        process.polled = held
        process.leases.begin(held, process.aim is Aim.END)
        found = process.leases.found
        if found is not None:
            self.compare_asks(held, found)
        if found is not None and found.is_buried:
            process.holds.clear()
        process.fair, process.most = fair if found is None else found.fair, process.leases.most
        for n, hold in process.holds.items():
            if hold.owned is not None:
                hold.seen = process.leases.asked(self.ids[name_of(n)])

    def compare_asks(self, sessions: list[int], found: Poll) -> None:
        """Raises `Unknown` unless a poll has just found the requests that there are for these sessions."""
        there = self.eye.execute(REQUESTS, (sessions,)).fetchall()
        if there != [(each.id, each.session, each.request) for each in found.asks]:
            raise Unknown(f"a worker finds other requests than there are: {found.asks}")

    def is_row(self, process: Process) -> bool:
        """Tells whether a worker has a row."""
        return bool(
            self.eye.execute("SELECT FROM statemachine.workers WHERE id = ANY (%s)", (process.numbers,)).fetchall()
        )

    def balance(self, w: int, before: World, after: Callable[[frozenset[int]], World]) -> None:
        """It claims, and leaves sessions as the model says."""
        process = self.processes[w]
        process.fair, process.most = NONE, 0
        found = None if process.leases is None else process.leases.finish()
        if process.leases is None or found is None:
            after(frozenset())
            return
        if found.fair != before.workers[w].fair:
            raise Unknown(f"worker {w} counted a share of {found.fair}")
        by_id = {number: int(name[1:]) for name, number in self.ids.items()}
        claimed = {by_id[each.id]: Held(each) for each in found.claimed}
        process.holds.update(claimed)
        if before.workers[w].most:
            self.compare_asks([*process.polled, *(each.id for each in found.claimed)], found)
        then = after(frozenset(claimed))
        for n in [*process.holds]:
            if then.sessions[n].holds[w] is None:
                if then.sessions[n].lease is LeaseState.IDLE:
                    self.unload(w, n, before)
                else:
                    self.free(w, n)
        if then.workers[w].life is Life.DEAD:
            self.leave(w)

    def free(self, w: int, n: int) -> None:
        """A store and a host leave a session."""
        process = self.processes[w]
        hold = process.holds.pop(n)
        assert process.leases is not None
        if hold.owned is not None:
            statements.release(self.line(w, n), [hold.owned])
        process.leases.give_back(hold.claimed)

    def leave(self, w: int) -> None:
        """A process that was told to end does so."""
        process = self.processes[w]
        assert process.leases is not None
        process.leases.leave()
        self.cut_off(process)
        process.life, process.aim = Life.DEAD, Aim.SERVE

    def open(self, w: int, n: int, before: World) -> None:
        process = self.processes[w]
        hold = process.holds[n]
        assert process.leases is not None
        number, session = process.leases.worker, self.ids[name_of(n)]
        lease = Lease(hold.claimed.epoch, number)
        wanted = Claim(name_of(n), SHOWN, SessionConfig(), takeover=False, worker=number, lease=lease)
        try:
            found = claiming.leased(self.line(w, n), wanted, session)
        except SessionInUse:
            del process.holds[n]
            return
        hold.owned = Owned(session, lease.epoch, found.position, found.meta.covered)
        hold.seen = process.leases.asked(session)

    def append(self, w: int, n: int, before: World) -> None:
        """Begins an append, by the statement for one session, for several, or for more than rows."""
        process, s = self.processes[w], before.sessions[n]
        hold = process.holds[n]
        assert hold.owned is not None
        what = Append.BEGIN if hold.seen > s.handled else Append.FINISH if s.work else Append.NOTE
        epoch, line = hold.claimed.epoch, self.line(w, n)
        entry = Entry(1, 1, f"{what.name} {hold.seen} {epoch} {w}")
        receipt = Receipt(f"{epoch} {hold.owned.position}", "", "") if what is Append.NOTE else None
        append = statements.append_of(hold.owned, encode_items([Write((entry,), receipt)]))
        line.execute("BEGIN")
        if what is Append.FINISH:
            is_written = bool(line.execute(*statements.statement([append]), prepare=True, binary=True).fetchall())
        else:
            is_written = bool(statements.write(line, [append]))
        if is_written:
            process.flights[n] = Flying(append, what, epoch, hold.seen)
        else:
            line.execute("ROLLBACK")
            del process.holds[n]

    def commit(self, w: int, n: int, before: World) -> None:
        process = self.processes[w]
        flying = process.flights.pop(n)
        self.line(w, n).execute("COMMIT")
        flying.append.succeed()
        if flying.what is Append.BEGIN:
            found = self.eye.execute(REQUESTS, ([self.ids[name_of(n)]],)).fetchall()
            done = [number for number, _, request in found if int(request) <= flying.seen]
            if done:
                self.eye.execute(leases.DONE, {"asks": done})

    def unload(self, w: int, n: int, before: World) -> None:
        process = self.processes[w]
        hold = process.holds[n]
        assert process.leases is not None
        if process.leases.unload(hold.claimed, hold.seen):
            self.free(w, n)

    def crash(self, w: int) -> None:
        self.stop(w)
        process = self.processes[w]
        process.holds.clear()
        process.life, process.aim, process.is_cut = Life.DEAD, Aim.SERVE, False
        process.fair, process.most = NONE, 0

    def start(self, w: int) -> None:
        self.processes[w].life, self.processes[w].aim = Life.RUNNING, Aim.SERVE

    def pause(self, w: int) -> None:
        self.processes[w].life = Life.PAUSED

    def wake(self, w: int) -> None:
        self.processes[w].life = Life.RUNNING

    def drain(self, w: int) -> None:
        self.processes[w].aim = Aim.END

    def cut(self, w: int) -> None:
        self.cut_off(self.processes[w])
        self.processes[w].is_cut = True

    def heal(self, w: int) -> None:
        self.processes[w].is_cut = False

    def restart(self) -> None:
        """All connections end, and processes notice."""
        self.eye.execute(END_ALL).fetchall()
        for line in self.lines.values():
            line.close()
        self.lines.clear()
        for process in self.processes:
            process.holds.clear()
            process.flights.clear()
            process.fair, process.most = NONE, 0
            self.cut_off(process)

    def stop(self, w: int) -> None:
        """Ends the connections of a worker, and what is under way on them."""
        process = self.processes[w]
        for n in [*process.flights]:
            del process.flights[n]
            self.line(w, n).execute("ROLLBACK")
        self.cut_off(process)

    def cut_off(self, process: Process) -> None:
        """Ends the connection of a worker, and waits until the server has noticed."""
        ended, process.leases = process.leases, None
        if ended is None:
            return
        ended.close()
        with suppress(StoreError):
            ended.finish()
        self.eye.execute("SELECT pg_advisory_xact_lock(%s)", (ended.worker,))


def name_of(n: int) -> str:
    """Returns the name of a session."""
    return f"s{n}"


def hold_of(held: Held | None) -> Hold | None:
    """Returns what a process believes, in the words of the model."""
    if held is None:
        return None
    if held.owned is None:
        return Hold(Phase.CLAIMED, held.claimed.epoch, 0, 0)
    return Hold(Phase.OPEN, held.claimed.epoch, held.owned.position, held.seen)
