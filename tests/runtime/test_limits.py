"""What goes into the log is bounded in bytes as it is stored, at each door: a caller is refused, a turn fails, the text
of an error is cut, and no one else notices (`stores/limits.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine import Cause, Entry, MemoryStore, SessionConfig, SQLiteStore, Thread, Turn, TurnState
from statemachine.errors import TooLarge, Unstorable
from statemachine.stores import Receipt, Write, encoding, limits
from statemachine.stores.encoding import encode
from statemachine.stores.limits import Limit, cut, is_larger, stored_size
from tests.runtime.running import Open, completed, echo, ending, recorder, traced_sessions, virtual_time

FIXTURES = (traced_sessions, virtual_time)

SMALL = 1_000
NUL, EMOJI = "\x00", "\U0001f600"


def lower(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Lowers a bound, so that a test need not write a hundred megabytes."""
    monkeypatch.setattr(limits, name, Limit(getattr(limits, name).what, SMALL))


@given(st.text())
def test_size_is_that_of_the_text_within_json(text: str) -> None:
    written = encode(Entry(1, 1, text))[2]
    empty = encode(Entry(1, 1, ""))[2]
    assert stored_size(text) == len(written if isinstance(written, bytes) else written.encode()) - len(empty)


@pytest.mark.parametrize(("text", "size"), [("\x00\x1f", 12), ('"\\\n', 6), ("\u2028", 3), ("\ud800", 3), ("\x7f", 1)])
def test_size_of_what_is_escaped(text: str, size: int) -> None:
    assert stored_size(text) == size
    assert Limit("it", size).excess(text) is None
    assert Limit("it", size - 1).excess(text) == size


def test_every_bound_is_far_below_what_a_row_takes() -> None:
    every = [limit for limit in vars(limits).values() if isinstance(limit, Limit)]
    assert len(every) == 9
    assert sum(limit.bytes_max for limit in every) < limits.ROW_BYTES_MAX / 2


# Callers


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("MESSAGE", {"message": NUL * 167}, 1_002),
        ("NAME", {"name": "a" * 1_001}, 1_001),
        ("ROLE", {"role": EMOJI * 251}, 1_004),
        ("KEY", {"key": '"' * 501}, 1_002),
        ("SETTINGS", {"settings": "x" * 961}, 1_001),
        ("SETTINGS", {"settings": {"a": '"' * 250}}, None),
        ("PATH", {"parent": "/root/" + "/".join(["a" * 64] * 16)}, None),
    ],
)
async def test_value_too_large_is_refused_at_its_door_and_changes_nothing(
    open_session: Open, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], size: int | None
) -> None:
    lower(monkeypatch, name)
    given_: dict[str, Any] = {"parent": "/root", "name": "b", "message": "x", **options}
    async with open_session(echo, max_resident=100) as control:
        if name == "PATH":
            above = "/root"
            for part in given_["parent"].split("/")[2:-1]:
                await (await control.spawn(above, part, "x")).outcome()
                above += f"/{part}"
            given_ |= {"parent": above, "name": "a" * 64}
        before = control.statistics().records
        with pytest.raises(TooLarge) as refused:
            await control.spawn(**given_)
        assert refused.value.what == getattr(limits, name).what
        assert refused.value.size > refused.value.bytes_max == SMALL
        assert size in (None, refused.value.size)
        advice = "give a shorter one" if name in ("ROLE", "KEY", "PATH", "NAME") else "keep it elsewhere"
        assert str(refused.value).endswith(advice) or f"{advice}, such as in a file" in str(refused.value)
        assert control.statistics().records == before
        assert ending(await (await control.spawn("/root", "z", "x")).outcome()) == completed("x")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("MESSAGE", {"message": NUL * 166}),
        ("ROLE", {"role": EMOJI * 250}),
        ("KEY", {"key": '"' * 500}),
        ("SETTINGS", {"settings": "x" * 960}),
    ],
)
async def test_value_that_just_fits_is_taken(
    open_session: Open, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any]
) -> None:
    lower(monkeypatch, name)
    given_: dict[str, Any] = {"parent": "/root", "name": "b", "message": "x", **options}
    work = {"default": echo, options.get("role", "default"): echo}
    async with open_session(work) as control:
        outcome = await (await control.spawn(**given_)).outcome()
        assert outcome.status is TurnState.COMPLETED


@pytest.mark.anyio
async def test_message_and_key_are_bounded_by_every_verb_that_takes_them(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MESSAGE", "KEY", "PATH"):
        lower(monkeypatch, name)
    long = "x" * 1_001
    raised: list[str] = []

    async def work(turn: Turn) -> str:
        if turn.number == 1:
            for call in (turn.send, turn.follow_up):
                with pytest.raises(TooLarge, match="a message has at most 1,000 bytes"):
                    await call("/root", long)
                with pytest.raises(TooLarge, match="a key has at most 1,000 bytes"):
                    await call("/root", "x", key=long)
            raised.append(turn.path)
        return await echo(turn)

    async with open_session(work) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        for call in (control.send, control.follow_up, control.start):
            with pytest.raises(TooLarge, match="a message"):
                await call("/root/a", long)
            with pytest.raises(TooLarge, match="a key"):
                await call("/root/a", "x", key=long)
        with pytest.raises(TooLarge, match="a path"):
            await control.list(long)
        assert raised == ["/root/a"]
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("y")


# What code of turns makes


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("result", "size"),
    [("x" * 1_001, 1_001), (NUL * 167, 1_002), (["x" * 995], 1_001), (['"' * 250], 1_006), ({"a": EMOJI}, None)],
)
async def test_result_too_large_fails_its_turn_by_name_and_one_that_fits_does_not(
    open_session: Open, monkeypatch: pytest.MonkeyPatch, result: Any, size: int | None
) -> None:
    lower(monkeypatch, "RESULT")

    async def work(turn: Turn) -> Any:
        return result if turn.number == 1 else await echo(turn)

    async with open_session(work) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        if size is None:
            assert ending(outcome) == completed(result)
        else:
            assert (outcome.status, outcome.cause) == (TurnState.ERRORED, Cause.FAILED)
            assert outcome.result.startswith("TooLarge: a result has at most 1,000 bytes as it is stored, ")
            assert f"this one has {size:,};" in outcome.result
        assert ending(await (await control.follow_up("/root/a", "again")).outcome()) == completed("again")


@pytest.mark.anyio
async def test_entry_too_large_is_refused_and_the_turn_goes_on(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    lower(monkeypatch, "ENTRY")

    async def work(turn: Turn) -> str:
        for entry in ("x" * 999, NUL * 167, ["x" * 997], EMOJI * 250):
            with pytest.raises(TooLarge, match="an entry has at most 1,000 bytes"):
                await turn.record(entry)
        await turn.record("x" * 998)
        return "went on"

    async with open_session(work) as control:
        assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("went on")


@pytest.mark.anyio
async def test_flush_that_passes_on_too_much_fails_and_the_agent_stays(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    lower(monkeypatch, "ENTRY")
    work = recorder()
    work.left_over = NUL * 167
    async with open_session(work, max_concurrent=2, max_resident=1) as control:
        assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("x")
        outcome = await (await control.spawn("/root", "b", "x")).outcome()
        assert outcome.cause is Cause.NO_ROOM
        assert (await control.status("/root/a")).resident
        work.left_over = "fine"
        assert ending(await (await control.follow_up("/root/b", "y")).outcome()) == completed("x y")


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["run", "load", "flush", "init"])
async def test_error_with_an_enormous_text_is_cut_as_it_is_stored(
    open_session: Open, tmp_path: Path, where: str
) -> None:
    class Work(Thread):
        def __init__(self, agent: Any) -> None:
            super().__init__(agent)
            self.do("init")

        def do(self, what: str) -> None:
            if what == where and self.agent.path == "/root/a":
                raise ValueError(NUL * 1_000_000)

        async def load(self, history: Any) -> None:
            self.do("load")

        async def run(self, turn: Turn) -> str:
            self.do("run")
            return "done"

        async def flush(self) -> None:
            self.do("flush")

    async with open_session(Work) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        if where != "flush":
            assert outcome.status is TurnState.ERRORED
            assert "ValueError: \x00\x00" in outcome.result
            assert outcome.result.endswith("... (cut)")
            assert stored_size(outcome.result) < limits.ERROR.bytes_max + 100
        assert ending(await (await control.spawn("/root", "b", "x")).outcome()) == completed("done")


@given(st.text(), st.sampled_from(["", "x" * 70_000, NUL * 20_000, EMOJI * 20_000, '"' * 40_000]))
def test_text_that_is_cut_is_no_longer_than_is_stored_and_one_that_fits_stays(start: str, rest: str) -> None:
    text = start + rest
    assert stored_size(cut(text)) <= limits.ERROR.bytes_max
    assert cut(text) == text or stored_size(text) > limits.ERROR.bytes_max


# Stores


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_store_refuses_a_row_that_is_too_large_and_is_used_on(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    monkeypatch.setattr(encoding, "ROW_BYTES_MAX", SMALL)
    store: Any = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "session.db")
    await store.open(SessionConfig())
    try:
        for write in (
            Write((Entry(0, 1, NUL * 167),)),
            Write((Entry(0, 1, "\ud800" * 400),)),
            Write((), Receipt("k", "x" * 1_001, "a")),
        ):
            with pytest.raises(Unstorable, match="takes more than 1,000 bytes"):
                await store.append([write])
        await store.append([Write((Entry(0, 1, "x" * 900),))])
        assert len(await store.rollout(0)) == 1
    finally:
        await store.close()


@pytest.mark.parametrize(("data", "size"), [("x" * 9, 9), (EMOJI * 3, 12), (b"x" * 9, 9), ("\ud800" * 3, 9), ("", 0)])
def test_larger_than_its_size_is_nothing(data: str | bytes, size: int) -> None:
    assert not is_larger(data, size)
    assert is_larger(data, size - 1) or not data
