"""What is of PostgreSQL alone: connections that break, names of sessions, tables that are made and changed, errors."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Semaphore, Thread, Timer
from typing import Any

import anyio
import pytest

from model.postgres_server import Server, server
from statemachine import AgentControl, Turn
from statemachine.core.refusals import StoreFailed
from statemachine.log.recovery import durable_facts
from statemachine.stores import Entry, PostgresStore, Synchronous, Write, places, read_rollout, read_session
from statemachine.stores.errors import (
    ConnectionLost,
    DriverMissing,
    ForeignFile,
    NewerSchema,
    OlderSchema,
    SessionInUse,
    SessionUnnamed,
    StoreBusy,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreMissing,
    StoreReadOnly,
    StoreUnreachable,
)
from statemachine.stores.postgres import claiming, driver, schema, statements
from statemachine.stores.postgres.database import Database
from statemachine.stores.postgres.dsn import dsn_of
from tests.stores.databases import Rows, claimed, connected, put, said, sql
from tests.stores.session_files import CONFIG, FACTS, LIFE, ready

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that tests may end."""
    with server("fsync=off") as found:
        yield found


@pytest.fixture
def database(postgres: Server, numbers: Iterator[int]) -> Iterator[str]:
    """A database of its own, that has no tables yet."""
    name = f"database_{next(numbers)}"
    sql(postgres.dsn("x"), f"CREATE DATABASE {name}")
    yield name
    sql(postgres.dsn("x"), f"DROP DATABASE {name} WITH (FORCE)")


async def work(turn: Turn) -> str:
    await turn.record("said")
    return "done"


# Sessions of a database


async def test_control_opens_a_session_by_its_dsn_and_finds_it_again(dsn: str) -> None:
    async with AgentControl.open(dsn, work) as control:
        handle = await control.spawn("/root", "a", "go", key="once")
        assert (await handle.outcome()).result == "done"
    async with AgentControl.open(dsn, work) as control:
        again = await control.spawn("/root", "a", "go", key="once")
        assert (again.ref, (await again.outcome()).result) == (handle.ref, "done")
        assert [type(record).__name__ for record in await control.history("/root/a")] == [
            "MailAccepted", "TurnStarted", "Entry", "TurnEnded"
        ]  # fmt: skip


async def test_sessions_of_a_database_know_nothing_of_each_other(new_dsn: Callable[[], str]) -> None:
    one, other = await ready(PostgresStore(new_dsn())), await ready(PostgresStore(new_dsn()))
    await one.append([Write(LIFE)])
    assert await other.rollout(1) == ()
    await other.append([Write((Entry(1, 1, "other"),))])
    assert await one.rollout(1) == LIFE[1:]
    assert await other.rollout(1, last=1) == (Entry(1, 1, "other"),)


async def test_stores_of_a_process_share_connections_and_the_last_one_ends_them(new_dsn: Callable[[], str]) -> None:
    stores = [await ready(PostgresStore(new_dsn())) for _ in range(5)]
    (shared,) = {id(store._database): store._database for store in stores}.values()
    assert shared is not None
    assert len(shared._connections) == 3
    for store in stores:
        assert not shared.writer.connection.closed
        await store.close()
    assert all(connection.closed for connection in shared._connections)
    assert shared not in Database.known.values()


class Silent:
    """A server that takes connections and says nothing, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.goes_on = Semaphore(0), Event()
        self.count = 0
        real = driver.connect

        def connect(database: str, shown: str, **settings: str) -> Rows:
            if "silent" not in database:
                return real(database, shown, **settings)
            self.count += 1
            self.asked.release()
            assert self.goes_on.wait(60)
            raise StoreUnreachable(shown, "it said nothing")

        monkeypatch.setattr(driver, "connect", connect)

    async def wait(self) -> None:
        assert await anyio.to_thread.run_sync(self.asked.acquire, True, 60)


SILENT = "postgresql://silent/x?session=s"


async def test_server_that_says_nothing_keeps_neither_another_database_nor_the_event_loop_waiting(
    new_dsn: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Silent(monkeypatch)
    errors: list[StoreUnreachable] = []
    store = await ready(PostgresStore(new_dsn()))

    async def open_silent() -> None:
        with pytest.raises(StoreUnreachable, match="it said nothing") as error:
            await PostgresStore(SILENT).open(CONFIG)
        errors.append(error.value)

    letting_go = Timer(20, server.goes_on.set)  # if the event loop is blocked
    letting_go.start()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(open_silent)
        await server.wait()
        await store.close()
        await ready(store)
        await store.append([Write(LIFE)])
        await store.close()
        assert not server.goes_on.is_set()
        server.goes_on.set()
    letting_go.cancel()
    assert server.count == 1, "it is asked once for all that want it"
    assert len({id(error) for error in errors}) == 3
    assert Database.connecting == {}


async def test_stores_that_are_opened_at_once_share_connections(new_dsn: Callable[[], str]) -> None:
    stores = [PostgresStore(new_dsn()) for _ in range(5)]
    async with anyio.create_task_group() as tasks:
        for store in stores:
            tasks.start_soon(store.open, CONFIG)
    (shared,) = {id(store._database): store._database for store in stores}.values()
    assert shared is not None
    assert shared.users == 5
    for store in stores:
        await store.close()
    assert all(connection.closed for connection in shared._connections)
    assert (Database.known, Database.connecting) == ({}, {})


@pytest.mark.parametrize("by", ["scope", "task"])
async def test_opening_that_is_cancelled_while_it_connects_leaves_no_connection_and_no_thread(
    by: str, new_dsn: Callable[[], str], anyio_backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "task" and anyio_backend_name != "asyncio":
        pytest.skip("trio cancels by scopes alone")
    made: list[Database] = []
    connected, goes_on = Event(), Event()
    real = Database.__init__

    def connect(database: Database, *words: Any) -> None:
        real(database, *words)
        made.append(database)
        connected.set()
        assert goes_on.wait(60)

    monkeypatch.setattr(Database, "__init__", connect)
    store, other = PostgresStore(new_dsn()), PostgresStore(new_dsn())
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            if by == "scope":
                tasks.start_soon(cancelled_at, connected, scope.cancel, goes_on)
                await store.open(CONFIG)
                await store.close()  # it may have come to its end nevertheless
            else:
                task = asyncio.ensure_future(store.open(CONFIG))
                tasks.start_soon(cancelled_at, connected, task.cancel, goes_on)
                await asyncio.wait([task])
                assert task.cancelled()
    (database,) = made
    assert all(connection.closed for connection in database._connections)
    assert not any(worker.stop.alive for worker in database._workers)
    assert Database.known == {}
    for again in (store, other):
        await again.open(CONFIG)
        await again.close()


async def cancelled_at(connected: Event, cancel: Callable[[], object], goes_on: Event) -> None:
    """Cancels an opening once its connections are there, and before it has them."""
    assert await anyio.to_thread.run_sync(connected.wait, 60)
    cancel()
    await anyio.wait_all_tasks_blocked()
    goes_on.set()


async def test_connection_that_cannot_be_closed_keeps_no_other_open(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await ready(PostgresStore(dsn))
    shared = store._database
    assert shared is not None
    real = shared._connections[0].close

    def close() -> None:
        real()
        raise OSError("no network")

    monkeypatch.setattr(shared._connections[0], "close", close)
    with pytest.raises(OSError, match="no network"):
        await store.close()
    assert all(connection.closed for connection in shared._connections)
    assert shared not in Database.known.values()


async def test_session_can_be_read_while_another_has_it_open(dsn: str) -> None:
    store = await ready(PostgresStore(dsn))
    await store.append([Write(LIFE)])
    found = read_session(dsn)
    assert (found.epoch, found.tail, durable_facts(found.ledger)) == (1, 5, FACTS)
    assert read_rollout(dsn, 1) == LIFE[1:]
    assert await store.check() == ()


async def test_backup_is_a_session_in_a_file(dsn: str, tmp_path: Path) -> None:
    async with AgentControl.open(dsn, work) as control:
        handle = await control.spawn("/root", "a", "go", settings={"odd": "\ud800 \0"}, key="once \ud800")
        await handle.outcome()
        told = list[tuple[int, int]]()
        await control.backup(tmp_path / "copy.db", lambda done, rows: told.append((done, rows)))
        assert told[-1][0] == told[-1][1] > 0
        history = await control.history("/root/a")
    assert places.check(tmp_path / "copy.db") == ()
    async with AgentControl.open(tmp_path / "copy.db", work) as control:
        assert await control.history("/root/a") == history
        assert (await control.status("/root/a")).settings == {"odd": "\ud800 \0"}
        again = await control.spawn("/root", "a", "go", settings={"odd": "\ud800 \0"}, key="once \ud800")
        assert again.ref == handle.ref


# Owners


PROGRAM = """
import sys
import anyio
from statemachine.core.config import SessionConfig
from statemachine.stores import Entry, PostgresStore, StoreError, Write

async def main(dsn):
    store = PostgresStore(dsn)
    await store.open(SessionConfig())
    print("open", flush=True)
    number = 0
    for line in sys.stdin:
        try:
            while True:
                await store.append([Write((Entry(1, number, "x"), Entry(1, number, "y")))])
                print(number, flush=True)
                number += 1
                if line.strip() == "append":
                    break
        except StoreError as error:
            print(type(error).__name__, flush=True)

anyio.run(main, sys.argv[1])
"""


class Other:
    """Another process that has a session open."""

    def __init__(self, dsn: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, dsn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self.hear() == "open"

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.hear()


@pytest.fixture
def other(dsn: str) -> Iterator[Other]:
    found = Other(dsn)
    with found.process:
        yield found
        found.process.kill()


async def test_session_of_a_process_that_lives_is_refused_by_its_number_and_one_that_died_is_opened(
    dsn: str, other: Other
) -> None:
    assert other.ask("append") == "0"
    with pytest.raises(SessionInUse, match=f"open in process {other.process.pid} on ") as refused:
        await PostgresStore(dsn).open(CONFIG)
    assert refused.value.owner == other.process.pid
    assert other.ask("append") == "1"
    other.process.kill()
    other.process.wait()
    store = await opened_soon(dsn)
    assert [record.turn for record in await store.rollout(1) if isinstance(record, Entry)] == [0, 0, 1, 1]


async def opened_soon(dsn: str) -> PostgresStore:
    """The session, once the server has noticed that its owner is gone."""
    store = PostgresStore(dsn)
    while True:
        try:
            return await ready(store)
        except SessionInUse:
            continue


async def test_process_killed_while_it_appends_leaves_whole_appends_and_all_that_it_acknowledged(
    dsn: str, other: Other
) -> None:
    other.tell("for ever")
    while other.hear() != "20":
        pass
    other.process.kill()
    assert other.process.stdout is not None
    acknowledged = max(20, *[int(line) for line in other.process.stdout.read().split()], 0)
    store = await opened_soon(dsn)
    found = [record.turn for record in await store.rollout(1) if isinstance(record, Entry)]
    assert len(found) // 2 in (acknowledged + 1, acknowledged + 2)
    assert found == [number for number in range(len(found) // 2) for _ in range(2)]


async def test_owner_that_was_paused_while_another_took_over_writes_nothing_more(dsn: str, other: Other) -> None:
    assert other.ask("append") == "0"
    other.process.send_signal(signal.SIGSTOP)
    store = await ready(PostgresStore(dsn, takeover=True))
    await store.append([Write((Entry(1, 7, "new"),))])
    other.process.send_signal(signal.SIGCONT)
    assert other.ask("append") == "SessionInUse"
    assert other.ask("append") == "SessionInUse"
    assert [record.turn for record in await store.rollout(1) if isinstance(record, Entry)] == [0, 0, 7]


async def test_takeover_that_fails_leaves_the_owner_what_it_has(dsn: str) -> None:
    store = await ready(PostgresStore(dsn))
    await store.append([Write(LIFE)])
    owned = store._owned
    assert owned is not None
    sql(dsn, "UPDATE statemachine.log SET data = 'x' WHERE session = %s AND position = 1", owned.id)
    with pytest.raises(StoreCorrupt, match="log position 1"):
        await PostgresStore(dsn, takeover=True).open(CONFIG)
    assert "log position 1:" in (await store.check())[0]
    await store.append([Write((Entry(1, 2, "still mine"),))])
    assert await store.rollout(1, last=1) == (Entry(1, 2, "still mine"),)


async def test_session_whose_owner_writes_all_the_time_is_claimed_with_all_of_it(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(dsn) as first, connected(dsn) as second:
        owned, _ = claimed(first, dsn)
        looked = 0
        real = claiming.looked_at

        def look(*words: Any) -> Any:
            nonlocal looked
            looked += 1
            found = real(*words)
            put(first, owned)
            return found

        monkeypatch.setattr(claiming, "looked_at", look)
        taken, found = claimed(second, dsn, worker=2)
        assert (looked, taken.position, found.tail) == (claiming.ATTEMPTS + 1, 4, 4)
        assert not put(first, owned)


async def test_session_whose_opening_failed_in_the_end_can_be_opened_again_beside_others(
    new_dsn: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await ready(PostgresStore(new_dsn()))  # so that the connections of the process stay
    store = await ready(PostgresStore(new_dsn()))
    await store.append([Write(LIFE)])
    await store.close()
    real = statements.write

    def fail(*_: object) -> bool:
        raise MemoryError

    monkeypatch.setattr(statements, "write", fail)
    with pytest.raises(MemoryError):
        await store.open(CONFIG)
    monkeypatch.setattr(statements, "write", real)
    assert (await store.open(CONFIG)).epoch == 3
    assert await store.rollout(1) == LIFE[1:]


async def test_append_that_fails_in_whatever_way_fails_every_later_one(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await ready(PostgresStore(dsn))
    real = statements.write

    def fail(*words: Any) -> set[int]:
        real(*words)
        raise MemoryError

    monkeypatch.setattr(statements, "write", fail)
    for _ in range(2):
        with pytest.raises(StoreError, match="MemoryError"):
            await store.append([said()])
        monkeypatch.setattr(statements, "write", real)
    assert len(read_rollout(dsn, 1)) == 1


async def test_claim_that_finds_the_session_locked_for_too_long_is_told_as_busy(dsn: str) -> None:
    await (await ready(PostgresStore(dsn))).close()
    with connected(dsn) as locking, locking.transaction():
        locking.execute("SELECT * FROM statemachine.sessions FOR UPDATE")
        with pytest.raises(StoreBusy, match="pg_stat_activity"):
            await PostgresStore(dsn, busy_timeout=0.01).open(CONFIG)


async def test_fork_of_an_owner_is_told_that_it_is_one_and_harms_nothing(dsn: str) -> None:
    store = await ready(PostgresStore(dsn))
    store._process += 1
    with pytest.raises(StoreClosed, match="of which this is a fork"):
        await store.append([said()])
    store._process -= 1
    await store.append([said()])


# Connections that break


async def test_lost_connection_fails_the_session_and_the_next_opening_has_what_was_acknowledged(dsn: str) -> None:
    async def lose() -> None:
        async with AgentControl.open(dsn, work) as control:
            await (await control.spawn("/root", "a", "go")).outcome()
            sql(dsn, "SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype = 'advisory' AND granted")
            await (await control.follow_up("/root/a", "again")).outcome()

    with pytest.raises(StoreFailed, match="ConnectionLost") as failed:
        await lose()
    assert isinstance(failed.value.__cause__, ConnectionLost)
    async with AgentControl.open(dsn, work) as control:
        assert (await (await control.follow_up("/root/a", "again")).outcome()).result == "done"


async def test_server_that_is_ended_at_once_has_after_its_restart_what_was_acknowledged(
    own_server: Server, numbers: Iterator[int]
) -> None:
    one, other = [PostgresStore(own_server.dsn(f"s{next(numbers)}")) for _ in range(2)]
    for store in (one, other):
        await ready(store)
        await store.append([Write(LIFE)])
    own_server.end()
    with pytest.raises(ConnectionLost):
        await one.append([said()])
    own_server.start()
    for _ in range(2):  # also the one that was idle: the server may have lost commits
        with pytest.raises(ConnectionLost):
            await other.append([said()])
    with pytest.raises(StoreError):
        await one.rollout(1)
    for store in (one, other):
        await store.close()
        await ready(store)
        assert await store.rollout(1) == LIFE[1:]
        await store.close()


async def test_connection_has_what_the_store_relies_on(dsn: str) -> None:
    for synchronous, expected in ((Synchronous.FULL, "on"), (Synchronous.NORMAL, "off")):
        store = await ready(PostgresStore(dsn, synchronous=synchronous))
        database = store._database
        assert database is not None
        names = ("transaction_isolation", "idle_in_transaction_session_timeout", "synchronous_commit")
        found = [database.writer.connection.execute(f"SHOW {name}").fetchone() for name in names]
        assert found == [("read committed",), ("30s",), (expected,)]
        assert database.writer.connection.info.get_parameters()["keepalives_idle"] == "10"
        await store.close()


# Errors


@pytest.mark.parametrize(
    ("dsn", "error", "words"),
    [
        ("postgresql://h/db", SessionUnnamed, r"names no session; name it .*\?session=NAME"),
        ("postgresql://h/db?session=", SessionUnnamed, "names no session"),
        ("postgresql://h/db?session=a&session=b", SessionUnnamed, "more than one"),
        ("postgresql://h/db?session=a%00", SessionUnnamed, "is not the name of a session"),
        (f"postgresql://h/db?session={'x' * 201}", SessionUnnamed, "is not the name of a session"),
        ("postgresql://h/db?what", StoreUnreachable, "this is not a DSN"),
    ],
)
def test_dsn_that_names_no_session_is_a_typed_error(dsn: str, error: type[StoreError], words: str) -> None:
    with pytest.raises(error, match=words):
        PostgresStore(dsn)


@pytest.mark.parametrize("place", ["u:se%20cret@h/db?session=s", "u@h/db?session=s&password=se%20cret"])
async def test_password_is_in_no_error_and_in_no_name(place: str) -> None:
    dsn = f"postgresql://{place}&host=/nowhere"
    store = PostgresStore(dsn)
    with pytest.raises(StoreUnreachable) as refused:
        await store.open(CONFIG)
    for told in (store.path, str(refused.value), repr(refused.value), places.shown(dsn), repr(dsn_of(dsn))):
        assert "cret" not in told
    assert "cret" in dsn_of(dsn).database


async def test_server_that_is_not_there_is_a_typed_error_that_says_what_to_do(tmp_path: Path) -> None:
    dsn = f"postgresql:///postgres?host={tmp_path}&session=s"
    with pytest.raises(StoreUnreachable, match="start the server, or correct host"):
        await PostgresStore(dsn).open(CONFIG)
    with pytest.raises(StoreUnreachable):
        read_session(dsn)


async def test_database_or_session_that_is_not_there_is_told_as_missing(postgres: Server, database: str) -> None:
    missing = postgres.dsn("s", "nowhere")
    with pytest.raises(StoreMissing, match="createdb"):
        await PostgresStore(missing).open(CONFIG)
    empty = postgres.dsn("s", database)
    with pytest.raises(StoreMissing, match="no session was ever opened"):
        read_session(empty)
    await (await ready(PostgresStore(empty))).close()
    with pytest.raises(StoreMissing, match="there is no such session"):
        read_session(postgres.dsn("other", database))


async def test_user_without_rights_is_told_so(postgres: Server, database: str, numbers: Iterator[int]) -> None:
    user = f"reader_{next(numbers)}"
    await (await ready(PostgresStore(postgres.dsn("s", database)))).close()
    sql(postgres.dsn("s", database), f"CREATE ROLE {user} LOGIN")
    sql(postgres.dsn("s", database), f"GRANT USAGE ON SCHEMA statemachine TO {user}")
    sql(postgres.dsn("s", database), f"GRANT SELECT ON ALL TABLES IN SCHEMA statemachine TO {user}")
    dsn = postgres.dsn("s", database).replace("user=statemachine", f"user={user}")
    with pytest.raises(StoreReadOnly, match="rights on its tables"):
        await PostgresStore(dsn).open(CONFIG)
    assert read_session(dsn).epoch == 1
    sql(postgres.dsn("s", database), f"DROP OWNED BY {user}")
    sql(postgres.dsn("s", database), f"DROP ROLE {user}")


async def test_without_psycopg_there_is_one_line_that_says_what_to_install(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DriverMissing, match=r"pip install 'agent-statemachine\[postgres\]'"):
        async with AgentControl.open(dsn, work):
            pass
    with pytest.raises(DriverMissing):
        read_session(dsn)


def test_psycopg_is_not_imported_for_a_session_in_a_file(tmp_path: Path) -> None:
    program = f"""
import sys
import anyio
from statemachine import AgentControl, PostgresStore, read_session
async def main():
    async with AgentControl.open({str(tmp_path / "s.db")!r}, None or (lambda turn: None)):
        pass
anyio.run(main)
read_session({str(tmp_path / "s.db")!r})
PostgresStore("postgresql://host/database?session=name")
assert not [name for name in sys.modules if name.startswith("psycopg")]
"""
    program = program.replace("None or (lambda turn: None)", "work").replace(
        "async def main", "async def work(turn):\n    pass\nasync def main"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Tables


def migrated(dsn: str, *more: schema.Migration) -> None:
    with driver.connect(dsn_of(dsn).database, "test") as connection:
        schema.migrate(connection, "test", (*schema.MIGRATIONS, *more))


def column(connection: Rows) -> None:
    connection.execute("ALTER TABLE statemachine.sessions ADD COLUMN more text")


def fails(connection: Rows) -> None:
    column(connection)
    raise MemoryError


async def test_tables_are_what_the_code_believes_them_to_be(postgres: Server, database: str) -> None:
    dsn = postgres.dsn("s", database)
    with connected(dsn) as connection:
        assert schema.differences(connection) == []
        changes = {
            "ALTER TABLE statemachine.log ADD COLUMN more text": "column log.more (text) does not belong there",
            "ALTER TABLE statemachine.log ALTER COLUMN kind TYPE bytea USING NULL": "column log.kind (text) is missing",
            "ALTER TABLE statemachine.keys DROP CONSTRAINT keys_pkey": "rows of keys are not told apart by",
            "CREATE RULE nothing AS ON INSERT TO statemachine.log DO INSTEAD NOTHING": "rule 'nothing' of log",
        }
        for statement, problem in changes.items():
            connection.execute("BEGIN")
            connection.execute(statement)
            assert any(problem in found for found in schema.differences(connection)), statement
            connection.execute("ROLLBACK")
        connection.execute("CREATE RULE nothing AS ON INSERT TO statemachine.log DO INSTEAD NOTHING")
    with pytest.raises(StoreCorrupt, match="rule 'nothing' of log does not belong there"):
        await PostgresStore(dsn).open(CONFIG)


async def test_two_that_make_the_tables_at_once_do_it_once(postgres: Server, database: str) -> None:
    makers = [Thread(target=migrated, args=(postgres.dsn("s", database),)) for _ in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert sql(postgres.dsn("s", database), "SELECT number FROM statemachine.version") == [(len(schema.MIGRATIONS),)]


async def test_newer_version_of_the_tables_fences_owners_and_is_refused_by_the_older_code(
    postgres: Server, database: str
) -> None:
    dsn = postgres.dsn("s", database)
    store = await ready(PostgresStore(dsn))
    with pytest.raises(MemoryError):
        migrated(dsn, fails)
    await store.append([said()])
    migrated(dsn, column)
    with pytest.raises(SessionInUse):
        await store.append([said()])
    await store.close()
    with pytest.raises(NewerSchema):
        await PostgresStore(dsn).open(CONFIG)
    with pytest.raises(NewerSchema):
        read_session(dsn)


async def test_older_tables_are_not_read_before_they_are_brought_up_to_date(
    postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = postgres.dsn("s", database)
    await (await ready(PostgresStore(dsn))).close()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, lambda connection: None))
    with pytest.raises(OlderSchema):
        read_session(dsn)
    assert (await PostgresStore(dsn).open(CONFIG)).epoch == 3
    assert read_session(dsn).epoch == 3


@pytest.mark.parametrize("made", ["", " CREATE TABLE version (a int)"])
async def test_schema_of_something_else_is_refused_and_not_touched(postgres: Server, database: str, made: str) -> None:
    dsn, made = postgres.dsn("s", database), f"CREATE SCHEMA statemachine{made}"
    sql(dsn, made)
    with pytest.raises(ForeignFile, match="something else"):
        await PostgresStore(dsn).open(CONFIG)
    assert sql(dsn, "SELECT to_regclass('statemachine.sessions')") == [(None,)]


async def test_check_names_what_opening_does_not_look_at(dsn: str) -> None:
    store = await ready(PostgresStore(dsn))
    await store.append([Write(LIFE)])
    await store.close()
    await (await ready(store)).close()
    assert await store.check() == ()
    ((session,),) = sql(dsn, "SELECT id FROM statemachine.sessions WHERE name = %s", dsn_of(dsn).session)
    sql(dsn, "UPDATE statemachine.log SET agent = 7 WHERE session = %s AND kind = 'TurnStarted'", session)
    sql(dsn, "DELETE FROM statemachine.log WHERE session = %s AND kind = 'TurnEnded'", session)
    sql(dsn, "UPDATE statemachine.sessions SET keys = 3 WHERE id = %s", session)
    problems = "\n".join(await store.check())
    for expected in ("is in the rollout of agent 7", "agent 1: its last turn ended with", "and 3 were given"):
        assert expected in problems


# The server of the tests


def test_server_ends_with_the_process_that_started_it() -> None:
    program = (
        "import os, signal\nfrom model.postgres_server import Server\nfound = Server('fsync=off')\n"
        "print(found.process.pid, found.folder, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    pid, folder = done.stdout.split()
    while Path(f"/proc/{pid}").exists() and "zombie" not in Path(f"/proc/{pid}/status").read_text("utf-8"):
        os.sched_yield()
    assert not Path(folder, "data", "postmaster.pid").exists()
