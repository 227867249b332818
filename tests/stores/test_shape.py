"""Files whose schema is not what the migrations make, and facts of the session as a whole that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from statemachine.core.events import ROOT
from statemachine.core.records import AgentSpawned
from statemachine.stores import Entry, Receipt, SQLiteStore, StoreCorrupt, Write, read_rollout, read_session
from tests.stores.session_files import CONFIG, LIFE, make, opened, sql
from tests.stores.test_sqlite_versions import write_first_version

pytestmark = pytest.mark.anyio

IGNORED = "CREATE TRIGGER x BEFORE INSERT ON log BEGIN SELECT RAISE(IGNORE); END"
DELETED = "CREATE TRIGGER x AFTER INSERT ON log BEGIN DELETE FROM keys; END"
SHAPES: dict[str, tuple[tuple[str, ...], str]] = {
    "a trigger that ignores": ((IGNORED,), "trigger 'x' does not belong"),
    "a trigger that deletes": ((DELETED,), "trigger 'x' does not belong"),
    "a view without end": (
        (
            "DROP TABLE meta",
            "CREATE VIEW meta AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
            " SELECT 'epoch' || i AS name, i AS value FROM n",
        ),
        "view 'meta' does not belong",
    ),
    "a table too many": (("CREATE TABLE x (y)",), "table 'x' does not belong"),
    "an index too many": (("CREATE INDEX x ON log (kind)",), "index 'x' does not belong"),
    "a table too few": (("DROP TABLE rollouts",), "table 'rollouts' is missing"),
    "a column too many": (("ALTER TABLE log ADD COLUMN x",), "table 'log' differs"),
    "a column too few": (("ALTER TABLE keys DROP COLUMN answer",), "table 'keys' differs"),
    "a check that is never met": (
        ("ALTER TABLE keys RENAME TO old", "CREATE TABLE keys (key, request, answer, CHECK (0))", "DROP TABLE old"),
        "table 'keys' differs",
    ),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.db"


@pytest.mark.parametrize("shape", SHAPES)
async def test_file_with_another_schema_is_refused_untouched_and_check_names_what_differs(
    shape: str, path: Path
) -> None:
    statements, said = SHAPES[shape]
    await make(path)
    sql(path, *statements)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match=said):
        await SQLiteStore(path).open(CONFIG)
    for read in (read_session, lambda path: read_rollout(path, 1)):
        with pytest.raises(StoreCorrupt, match=said):
            read(path)
    assert any(said in problem for problem in await SQLiteStore(path).check())
    assert path.read_bytes() == before


async def test_older_file_with_another_schema_is_refused_before_it_is_migrated(path: Path) -> None:
    write_first_version(path)
    sql(path, IGNORED)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="trigger 'x'"):
        await SQLiteStore(path).open(CONFIG)
    assert path.read_bytes() == before


@pytest.mark.parametrize("receipt", [None, Receipt("new", "request", "[1]")], ids=["without a key", "with a key"])
@pytest.mark.parametrize("trigger", [IGNORED, DELETED], ids=["ignores", "deletes"])
async def test_append_to_a_file_that_got_a_trigger_meanwhile_is_not_acknowledged(
    trigger: str, receipt: Receipt | None, path: Path
) -> None:
    store = await opened(path)
    await store.append([Write(LIFE, Receipt("key", "request", "[1]"))])
    sql(path, trigger)
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match="trigger"):
            await store.append([Write((Entry(1, 1, "more"),), receipt)])
    await store.close()


async def test_append_goes_on_after_a_foreign_change_of_the_schema_that_leaves_it_the_same(path: Path) -> None:
    store = await opened(path)
    await store.append([Write(LIFE, Receipt("key", "request", "[1]"))])
    sql(path, "CREATE TABLE x (y)", "DROP TABLE x", "ANALYZE")
    await store.append([Write((Entry(1, 1, "more"),), Receipt("new", "request", "[1]"))])
    assert await store.rollout(1) == (*LIFE[1:], Entry(1, 1, "more"))
    assert await store.check() == ()
    await store.close()
    await (await opened(path)).close()


FACTS_OF_ALL: dict[str, tuple[str, str]] = {
    "covered beyond the log": ("covered = 8", "covered is 8"),
    "covered beyond some records": ("covered = 6", "covered is 6"),
    "covered less than it is": ("covered = 4", "covered is 4"),
    "covered below 0": ("covered = -1", "covered is -1"),
    "the last epoch that SQLite has": (f"epoch = {2**63 - 1}", "epoch is 9223372036854775807, which no session"),
    "an epoch that is a broken number": ("epoch = 1.5", "epoch is 1.5"),
    "an owner below 0": ("owner = -5", "owner is -5"),
    "more mails than there can be": (f"mail_states = '[0,{10**30},0]'", "mail_states is 1000000"),
    "receipts below 0": ("keys = -1", "keys is -1"),
}


@pytest.mark.parametrize("fact", FACTS_OF_ALL)
async def test_fact_of_the_session_as_a_whole_that_cannot_be_is_a_typed_error(fact: str, path: Path) -> None:
    change, said = FACTS_OF_ALL[fact]
    await make(path)
    await make(path, Write((Entry(1, 1, "more"), AgentSpawned(2, ROOT, "b", None))))
    name, value = change.split(" = ")
    sql(path, f"UPDATE meta SET value = {value} WHERE name = '{name}'")
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match=said):
        await SQLiteStore(path).open(CONFIG)
    with pytest.raises(StoreCorrupt, match=said):
        read_session(path)
    assert any(said in problem for problem in await SQLiteStore(path).check())
    assert path.read_bytes() == before


async def test_check_misses_receipts_that_were_deleted(path: Path) -> None:
    store = await opened(path)
    await store.append([Write(LIFE, Receipt("key", "request", "[1]"))])
    both = [Receipt("key", "other", "[1]"), Receipt("new", "request", "[1]")]
    await store.append([Write((), receipt) for receipt in both])
    assert [await store.receipt(receipt.key) for receipt in both] == both
    await store.close()
    assert await SQLiteStore(path).check() == ()
    sql(path, "DELETE FROM keys WHERE key = 'new'")
    assert await SQLiteStore(path).check() == ("there are 1 receipts, and 2 were given",)
