"""Claims a session: reads what is there, and raises its epoch if nothing came to it meanwhile.

Reading may take seconds, and who holds the row of the session keeps its owner waiting, who may yet keep it: what is
read may be damaged. So all is read first, without a lock. Then the epoch is raised, which waits for an append that is
under way and keeps out those to come, and it is looked whether the log still ends where it did. If it does not, the
epoch is left as it was and all is read again; in the end, once more, with the epoch raised.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import frozen

from statemachine.core.config import SessionConfig
from statemachine.log import trace
from statemachine.stores.errors import SessionInUse, StoreBusy, StoreError
from statemachine.stores.folding import Folded
from statemachine.stores.leaving_out import check_left_out, warn
from statemachine.stores.postgres import driver, statements
from statemachine.stores.postgres.contents import MOMENT, DatabaseContents, check_shape, session_of
from statemachine.stores.postgres.database import here, taken_over
from statemachine.stores.postgres.statements import Owned
from statemachine.stores.protocol import Recovered
from statemachine.stores.rows import Meta, encode_opening

if TYPE_CHECKING:
    from psycopg import Connection

LOCK_MS = 50
"""Milliseconds for which a claim waits for a lock before it is `StoreBusy`: others need the connection, too."""
ATTEMPTS = 3
"""Attempts to claim a session that another owner writes to, without keeping that owner out while it is read."""


@frozen
class Lease:
    """What a host has claimed a session by: the epoch, and its number among the workers."""

    epoch: int
    worker: int


@frozen
class Claim:
    """What a store wants: this session, for this worker."""

    name: str
    shown: str
    config: SessionConfig
    takeover: bool
    worker: int
    without: frozenset[int] = frozenset()
    """Agents that are left out, because their rows are damaged."""
    lease: Lease | None = None
    """By which a host has claimed the session already; None: it has not."""


@frozen
class Found:
    """What there is of a session."""

    meta: Meta
    folded: Folded
    position: int
    left_out: set[int]


def claim(connection: Connection[tuple[Any, ...]], wanted: Claim) -> tuple[Owned, Recovered]:
    """Claims the session, which is made if there is none. Raises `SessionInUse` if its owner lives and is not to be
    taken over, `StoreBusy` and `StoreCorrupt`.
    """
    with driver.typed(wanted.shown):
        connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{LOCK_MS}",))
        check_shape(connection, wanted.shown)
        session = made(connection, wanted.name)
        if wanted.lease is not None:
            return opened(connection, wanted, session, wanted.lease.epoch, leased(connection, wanted, session))
        for attempt in range(ATTEMPTS + 1):
            found = attempted(connection, wanted, session, is_last=attempt == ATTEMPTS)
            if found is None:
                continue
            epoch = found.meta.epoch + 1
            try:
                return opened(connection, wanted, session, epoch, found)
            except BaseException:
                with suppress(StoreError):
                    statements.release(connection, [Owned(session, epoch, 0, 0)])
                raise
    raise StoreBusy(wanted.shown, "others claim the session at the same time")


def made(connection: Connection[tuple[Any, ...]], name: str) -> int:
    """Returns the number of the session with this name."""
    found = session_of(connection, name)
    if found is None:
        connection.execute("INSERT INTO statemachine.sessions (name) VALUES (%s) ON CONFLICT DO NOTHING", (name,))
        found = session_of(connection, name)
    assert found is not None
    return found


def leased(connection: Connection[tuple[Any, ...]], wanted: Claim, session: int) -> Found:
    """Returns what there is of a session that a host has claimed. The claim raised the epoch, while no append was under
    way, so nothing was written since; no lock is held meanwhile, with which a process could hang. Raises `SessionInUse`
    if the epoch is another one by now.
    """
    lease = wanted.lease
    assert lease is not None
    contents = DatabaseContents(connection, wanted.shown, session)
    connection.execute(MOMENT)
    try:
        found = looked_at(contents, wanted)
    finally:
        if not connection.closed:
            connection.execute("ROLLBACK")
    pid, host = here()
    owned = connection.execute(
        "UPDATE statemachine.sessions SET pid = %s, host = %s, config = %s"
        " WHERE id = %s AND epoch = %s AND worker = %s",
        (pid, host, trace.header_line(wanted.config), session, lease.epoch, lease.worker),
    )
    if owned.rowcount != 1:
        raise taken_over(wanted.shown, statements.epochs(connection, [session]).get(session), lease.epoch)
    return found


def attempted(connection: Connection[tuple[Any, ...]], wanted: Claim, session: int, is_last: bool) -> Found | None:
    """Tries to claim it. Returns what was there before, or None if another owner wrote to it meanwhile."""
    contents = DatabaseContents(connection, wanted.shown, session)
    connection.execute(MOMENT)
    try:
        check_free(connection, wanted, session)
        found = looked_at(contents, wanted)
    finally:
        if not connection.closed:
            connection.execute("ROLLBACK")
    pid, host = here()
    connection.execute("BEGIN")
    try:
        raised = connection.execute(
            "UPDATE statemachine.sessions SET epoch = epoch + 1, worker = %s, pid = %s, host = %s, config = %s"
            " WHERE id = %s AND epoch = %s",
            (wanted.worker, pid, host, trace.header_line(wanted.config), session, found.meta.epoch),
        )
        if raised.rowcount != 1:
            return None
        now = contents.meta()
        if now.covered != found.meta.covered or contents.last_position(now.covered) != found.position:
            if not is_last:
                return None
            folded = contents.folded(now, wanted.config, found.left_out)
            found = Found(found.meta, folded, contents.last_position(now.covered), found.left_out)
        connection.execute("COMMIT")
        before = found.meta
        meta = Meta(before.epoch, before.owner, before.config, now.covered, now.mail_states, now.keys)
        return Found(meta, found.folded, found.position, found.left_out)
    finally:
        if connection.info.transaction_status != 0 and not connection.closed:
            connection.execute("ROLLBACK")


def looked_at(contents: DatabaseContents, wanted: Claim) -> Found:
    """Returns what there is. Raises `StoreError` if an agent that is to be left out never was."""
    meta, left_out = contents.meta(), set(wanted.without)
    folded = contents.folded(meta, wanted.config, left_out)
    check_left_out(wanted.shown, wanted.without, folded.ledger)
    return Found(meta, folded, contents.last_position(meta.covered), left_out)


def check_free(connection: Connection[tuple[Any, ...]], wanted: Claim, session: int) -> None:
    """Raises `SessionInUse` if the session has an owner that lives, unless he is to be taken over. It is of the same
    moment as the epoch that is read, so an owner who comes later is not taken for this one.
    """
    row = connection.execute(
        "SELECT worker, pid, host, CASE WHEN worker IS NULL OR worker = %s THEN false ELSE"
        " pg_try_advisory_xact_lock_shared(worker) END FROM statemachine.sessions WHERE id = %s",
        (wanted.worker, session),
    ).fetchone()
    if wanted.takeover or row is None or row[0] is None or row[3]:
        return
    _, pid, host, _ = row
    raise SessionInUse(wanted.shown, f"the session is open in process {pid} on {host}", pid)


def opened(
    connection: Connection[tuple[Any, ...]], wanted: Claim, session: int, epoch: int, found: Found
) -> tuple[Owned, Recovered]:
    """Keeps what was folded as a snapshot, and returns what was found. A snapshot of usual size is one statement: a
    process that is stopped in the middle of several that are sent at once would keep the row locked.
    """
    meta, folded = found.meta, found.folded
    owned = Owned(session, epoch, found.position, meta.covered)
    if folded.tail or found.left_out:
        append = statements.append_of(owned, encode_opening(folded.snapshot, found.left_out))
        if append.size > statements.ALONE_BYTES:
            is_written = statements.write_alone(connection, append)
        else:
            is_written = bool(statements.write(connection, [append]))
        if not is_written:
            raise taken_over(wanted.shown, None, owned.epoch)
        append.succeed()
    warn(wanted.shown, found.left_out)
    return owned, Recovered(owned.epoch, meta.config, folded.ledger, folded.tail, folded.times)
