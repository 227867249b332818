"""One owner writes: the epoch is compared in the statement that inserts, with the row of the session locked."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence

import anyio
import pytest

from statemachine.core.events import ROOT
from statemachine.core.records import AgentSpawned
from statemachine.stores import Entry, PostgresStore, Receipt, SessionInUse, Snapshot, StoreError, Write, read_rollout
from statemachine.stores.postgres import database, statements
from statemachine.stores.postgres.database import Writer
from statemachine.stores.postgres.statements import Append, Owned
from statemachine.stores.rows import encode_items
from tests.stores.databases import Rows, claimed, connected, entries, put, said, told
from tests.stores.session_files import CONFIG, ready

LOCKING = "FOR SHARE OF s SKIP LOCKED"
TAKEOVERS = 30


@pytest.fixture
def first(dsn: str) -> Iterator[Rows]:
    with connected(dsn) as connection:
        yield connection


@pytest.fixture
def second(dsn: str) -> Iterator[Rows]:
    with connected(dsn) as connection:
        yield connection


@pytest.fixture(params=["alone", "together"])
def beside(request: pytest.FixtureRequest, first: Rows, new_dsn: Callable[[], str]) -> Owned | None:
    """A session that appends together with the one that is taken over, by another statement than one alone does."""
    return None if request.param == "alone" else claimed(first, new_dsn(), worker=3)[0]


def without_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defect: the epoch is compared, and the row is not locked."""
    for name in ("ONE", "PLAIN"):
        whole: str = getattr(statements, name)
        assert whole.count(LOCKING) == 1
        monkeypatch.setattr(statements, name, whole.replace(LOCKING, ""))


def found_by_takeover(first: Rows, second: Rows, dsn: str, beside: Owned | None) -> tuple[list[str], int]:
    """What an owner who takes over finds of an append that is committed while he does, and how long its log is then."""
    owned, _ = claimed(first, dsn)
    assert put(first, owned, said("before"), beside=beside)
    first.execute("BEGIN")
    assert put(first, owned, said("under way"), beside=beside)
    taken = list[Owned]()
    taking = threading.Thread(target=lambda: taken.append(claimed(second, dsn, worker=2)[0]))
    taking.start()
    taking.join(0.3)
    first.execute("COMMIT")  # now it is acknowledged
    taking.join()
    return entries(second, taken[0]), taken[0].position


def test_takeover_waits_for_an_append_that_is_under_way_and_finds_it(
    first: Rows, second: Rows, dsn: str, beside: Owned | None
) -> None:
    assert found_by_takeover(first, second, dsn, beside) == (["before", "under way"], 2)


def test_takeover_loses_what_is_acknowledged_if_the_row_is_not_locked(
    first: Rows, second: Rows, dsn: str, beside: Owned | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_lock(monkeypatch)
    _, position = found_by_takeover(first, second, dsn, beside)
    assert position == 1, "the new owner would write over it"


def takeovers(first: Rows, second: Rows, dsn: str, count: int, beside: Owned | None = None) -> list[int]:
    """Takes a session over again and again while its owner appends as fast as he can. Of each: how many of those that
    were acknowledged the new owner does not know.
    """
    rnd, lost = random.Random(1), list[int]()
    for _ in range(count):
        owned, _ = claimed(first, dsn)
        begun = threading.Event()

        def append_until_fenced(owned: Owned = owned, begun: threading.Event = begun) -> None:
            while put(first, owned, beside=beside):
                begun.set()
            begun.set()

        appending = threading.Thread(target=append_until_fenced)
        appending.start()
        begun.wait()
        for _ in range(rnd.randrange(3)):
            second.execute("SELECT 1")
        taken, _ = claimed(second, dsn, worker=2)
        appending.join()
        lost.append(owned.position - taken.position)
    return lost


def test_takeovers_from_an_owner_who_appends_lose_nothing(
    first: Rows, second: Rows, dsn: str, beside: Owned | None
) -> None:
    assert takeovers(first, second, dsn, TAKEOVERS, beside) == [0] * TAKEOVERS


@pytest.mark.nightly
def test_many_takeovers_from_an_owner_who_appends_lose_nothing(first: Rows, second: Rows, dsn: str) -> None:
    assert takeovers(first, second, dsn, 1000) == [0] * 1000


def test_append_of_a_fenced_owner_writes_nothing_of_it(first: Rows, second: Rows, dsn: str) -> None:
    owned, _ = claimed(first, dsn)
    assert put(first, owned)
    taken, _ = claimed(second, dsn, worker=2)
    before = dsn, entries(second, taken)
    assert not put(first, owned, Write((Entry(1, 1, "late"),), Receipt("key", "", "1")))
    assert not statements.write_alone(first, statements.append_of(owned, encode_items([said("large")])))
    assert before == (dsn, entries(second, taken))
    assert second.execute("SELECT count(*) FROM statemachine.keys WHERE session = %s", (owned.id,)).fetchone() == (0,)


@pytest.mark.anyio
async def test_reads_of_a_fenced_owner_are_refused(dsn: str) -> None:
    first = await ready(PostgresStore(dsn))
    await first.append([Write((Entry(1, 1, "said"),), Receipt("key", "", "1"))])
    second = await ready(PostgresStore(dsn, takeover=True))
    reads: tuple[Callable[[PostgresStore], object], ...] = (
        lambda store: store.rollout(1),
        lambda store: store.rollout(1, 0),
        lambda store: store.rollout(1, last=1),
        lambda store: store.rollout(99),
        lambda store: store.receipt("key"),
        lambda store: store.receipt("other"),
    )
    for read in reads:
        with pytest.raises(SessionInUse, match="taken over"):
            await read(first)  # type: ignore[misc]
        await read(second)  # type: ignore[misc]


# Common commits


def test_appends_of_many_sessions_are_one_statement_and_each_is_told_its_own(
    new_dsn: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsns = [new_dsn() for _ in range(20)]
    with connected(dsns[0]) as connection, connected(dsns[0]) as other:
        owned = [claimed(connection, dsn)[0] for dsn in dsns]
        for fenced in dsns[::5]:
            claimed(other, fenced, worker=2)
        commits = list[int]()
        real = statements.write

        def write(connection: Rows, appends: Sequence[Append]) -> set[int]:
            commits.append(len(appends))
            return real(connection, appends)

        monkeypatch.setattr(statements, "write", write)
        results = told(Writer(connection, "test"), [(each, f"of {each.id}") for each in owned])
        assert results == ["durable" if number % 5 else "SessionInUse" for number in range(20)]
        assert commits == [20]
        for number, each in enumerate(owned):
            assert entries(connection, each) == ([f"of {each.id}"] if number % 5 else [])


def test_owner_who_was_taken_over_in_the_same_process_does_not_write_beside_the_new_one(first: Rows, dsn: str) -> None:
    old, _ = claimed(first, dsn)
    new, _ = claimed(first, dsn)
    assert old.id == new.id
    spawned = AgentSpawned(1, ROOT, "a", None)
    assert put(first, new, Write((spawned, spawned)), Snapshot((), (0, 0, 0)))  # so no row is in the way
    for asked in ([(old, "old"), (new, "new")], [(new, "again"), (old, "old")]):
        assert sorted(told(Writer(first, "test"), asked)) == ["SessionInUse", "durable"]
    assert entries(first, new) == ["new", "again"]


def test_append_that_the_database_refuses_fails_its_own_session_alone(new_dsn: Callable[[], str]) -> None:
    one, other = new_dsn(), new_dsn()
    with connected(one) as connection:
        bad, good = claimed(connection, one)[0], claimed(connection, other)[0]
        connection.execute("INSERT INTO statemachine.log VALUES (%s, 1, 1, 'Entry', 'foreign')", (bad.id,))
        writer = Writer(connection, "test")
        assert told(writer, [(bad, "bad"), (good, "good")]) == ["StoreError", "durable"]
        assert told(writer, [(bad, "bad"), (good, "more")]) == ["StoreError", "durable"]
        assert entries(connection, good) == ["good", "more"]


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.anyio
async def test_session_that_is_locked_does_not_hold_up_the_others_and_goes_on_afterwards(
    new_dsn: Callable[[], str], monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    if is_large:
        monkeypatch.setattr(database, "ALONE_BYTES", 1)
    one, other, third = (PostgresStore(new_dsn()) for _ in range(3))
    await one.open(CONFIG)
    await other.open(CONFIG)
    done = list[str]()

    async def append(text: str) -> None:
        await one.append([said(text)])
        done.append(text)

    with connected(new_dsn()) as foreign:
        foreign.execute("BEGIN")
        foreign.execute("SELECT * FROM statemachine.sessions WHERE name = %s FOR UPDATE", (one._names.session,))
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(append, f"later {number}")
                await anyio.wait_all_tasks_blocked()
            for number in range(20):  # while the other one waits, and not only in the same statement
                await other.append([said(f"now {number}")])
            await third.open(CONFIG)
            await third.close()
            assert len(await other.rollout(1)) == 20
            assert (done, await one.rollout(1)) == ([], ())
            foreign.execute("COMMIT")
    assert [entry.data for entry in await one.rollout(1) if isinstance(entry, Entry)] == sorted(done)
    assert len(done) == 3
    await one.close()
    await other.close()


@pytest.mark.anyio
async def test_owner_that_leaves_a_locked_session_does_not_hold_up_the_others(new_dsn: Callable[[], str]) -> None:
    one, other = await ready(PostgresStore(new_dsn())), await ready(PostgresStore(new_dsn()))
    with connected(new_dsn()) as foreign:
        foreign.execute("BEGIN")
        foreign.execute("SELECT * FROM statemachine.sessions WHERE name = %s FOR UPDATE", (one._names.session,))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.close)
            await anyio.wait_all_tasks_blocked()
            await other.append([said("now")])
            foreign.execute("COMMIT")
        worker = "SELECT worker FROM statemachine.sessions WHERE name = %s"
        assert foreign.execute(worker, (one._names.session,)).fetchone() == (None,)
    await other.close()


@pytest.mark.anyio
async def test_many_sessions_that_append_at_once_share_commits_and_each_is_told_its_own(
    new_dsn: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = [await ready(PostgresStore(new_dsn())) for _ in range(30)]
    commits = list[int]()
    real = statements.write

    def write(connection: Rows, appends: Sequence[Append]) -> set[int]:
        commits.append(len(appends))
        return real(connection, appends)

    monkeypatch.setattr(statements, "write", write)
    told = dict[int, str]()

    async def append(number: int) -> None:
        try:
            await stores[number].append([Write((Entry(1, 1, number if number % 7 else object()),))])
            told[number] = "durable"
        except StoreError as error:
            told[number] = type(error).__name__

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(append, number)
    assert told == {number: "durable" if number % 7 else "Unstorable" for number in range(30)}
    assert sum(commits) == 25
    assert len(commits) < 10
    for number, store in enumerate(stores):
        assert await store.rollout(1) == ((Entry(1, 1, number),) if number % 7 else ())
        await store.close()


def test_session_that_stays_locked_is_told_as_busy(
    first: Rows, second: Rows, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCKED_S", 0.0)
    owned, _ = claimed(first, dsn)
    with second.transaction():
        second.execute("SELECT * FROM statemachine.sessions WHERE id = %s FOR UPDATE", (owned.id,))
        assert told(Writer(first, "test"), [(owned, "never")]) == ["StoreBusy"]


@pytest.mark.anyio
async def test_large_append_is_written_in_pieces_and_whole(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (statements, database):
        monkeypatch.setattr(module, "ALONE_BYTES", 100)
    store = await ready(PostgresStore(dsn))
    records = tuple([Entry(1, number, "x" * 60) for number in range(10)])
    await store.append([Write(records, Receipt("key", "request", "1")), Write((Entry(2, 1, "other"),))])
    assert await store.rollout(1) == records
    assert read_rollout(dsn, 2) == (Entry(2, 1, "other"),)
    assert await store.receipt("key") == Receipt("key", "request", "1")
    await ready(PostgresStore(dsn, takeover=True), CONFIG)
    with pytest.raises(SessionInUse):
        await store.append([Write(records)])
    assert len(read_rollout(dsn, 1)) == 10
