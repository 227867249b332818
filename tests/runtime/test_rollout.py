"""A thread asks for the end of its rollout when it is loaded, and not for all of it (harm)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from statemachine import Entry, LogRecord, MemoryStore, Rollout, Thread, ThreadLost, Turn, Work
from statemachine.core.machines import TurnState
from statemachine.runtime import AgentControl
from statemachine.stores import memory, rows
from statemachine.stores.encoding import decode
from tests.runtime.running import Open, completed, echo, ending, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)

Load = Callable[[Rollout], Any]


class Base(Thread):
    """Records what its mail says, and is loaded anew for each turn that says "lose"."""

    loaded: ClassVar[list[Any]]

    async def run(self, turn: Turn) -> str:
        text = turn.mail[-1].text
        if text == "lose":
            raise ThreadLost("as the test says")
        for number in range(int(text)):
            await turn.record({"number": number})
        if turn.headers:
            await turn.record(turn.headers)
        return text


class Silent(Thread):
    """Has nothing to load."""

    async def run(self, turn: Turn) -> str:
        return turn.mail[-1].text


def loading(load: Load) -> type[Base]:
    """A class of threads that is loaded so."""

    async def load_from(_: Base, rollout: Rollout) -> None:
        Loading.loaded.append(await load(rollout))

    Loading: type[Base] = type("Loading", (Base,), {"loaded": [], "load_from": load_from})
    return Loading


async def reload(control: AgentControl, path: str) -> None:
    """Has the thread of the agent loaded once more."""
    assert (await (await control.follow_up(path, "lose")).outcome()).status is TurnState.ERRORED
    assert ending(await (await control.follow_up(path, "0")).outcome()) == completed("0")


def data(records: tuple[LogRecord, ...]) -> list[Any]:
    return [record.data for record in records if isinstance(record, Entry)]


@pytest.mark.parametrize("path", ["/root/a", "/root"])
async def test_thread_that_asks_for_its_last_records_gets_these_alone(open_session: Open, path: str) -> None:
    work = loading(lambda rollout: rollout.last(5))
    async with open_session(work) as control:
        await (await control.spawn("/root", "a", "1")).outcome()
        await (await control.follow_up(path, "30")).outcome()
        await reload(control, path)
        whole = await control.history(path)
    assert len(whole) > 30
    # The turn that was loaded for ended after that, and started after it too, unless it is one of the root.
    at = len(whole) - (1 if path == "/root" else 2)
    assert work.loaded[-1] == whole[at - 5 : at]


@pytest.mark.parametrize("seen", [3, 100, 700])
async def test_thread_that_asks_for_what_came_since_its_mark_gets_the_newest_mark_and_all_after_it(
    open_session: Open, seen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = loading(lambda rollout: rollout.since(lambda found: "summary" in found))
    async with open_session(work) as control:
        await (await control.spawn("/root", "a", "500", headers={"summary": "old"})).outcome()
        await (await control.follow_up("/root/a", "500", headers={"summary": "new"})).outcome()
        await (await control.follow_up("/root/a", f"{seen}")).outcome()
        decoded = list[str]()

        def counted(kind: str, fields: Any) -> Any:
            decoded.append(kind)
            return decode(kind, fields)

        for module in (memory, rows):
            monkeypatch.setattr(module, "decode", counted)
        await reload(control, "/root/a")
    assert data(work.loaded[-1])[:2] == [{"summary": "new"}, {"number": 0}]
    assert data(work.loaded[-1])[1:] == [{"number": number} for number in range(seen)]
    assert isinstance(work.loaded[-1][0], Entry)
    assert len(decoded) < 64 + 6 * (seen + 10)  # of more than a thousand


async def test_thread_that_finds_no_mark_gets_the_whole_rollout(open_session: Open) -> None:
    marks = list[Any]()
    work = loading(lambda rollout: rollout.since(marks.append))
    async with open_session(work) as control:
        await (await control.spawn("/root", "a", "150")).outcome()
        before = await control.history("/root/a")
        await (await control.follow_up("/root/a", "lose")).outcome()
        marks.clear()
        await (await control.follow_up("/root/a", "0")).outcome()
    assert work.loaded[-1][: len(before)] == before
    assert marks == [{"number": number} for number in reversed(range(150))]  # each is shown once


async def test_thread_that_says_nothing_gets_the_whole_rollout_from_load(open_session: Open) -> None:
    seen = list[Any]()

    class Old(Base):
        async def load(self, history: tuple[LogRecord, ...]) -> None:
            seen.append(history)

    async with open_session(Old) as control:
        await (await control.spawn("/root", "a", "100")).outcome()
        await reload(control, "/root/a")
        whole = await control.history("/root/a")
    assert seen[-1] == whole[: len(whole) - 2]


@pytest.mark.parametrize("work", [echo, Silent], ids=["function", "class without a load"])
async def test_rollout_that_no_code_wants_is_not_read(
    open_session: Open, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, read = MemoryStore(), list[int]()
    rollout = store.rollout

    async def counted(agent: int, *how: Any, **wanted: Any) -> tuple[LogRecord, ...]:
        read.append(agent)
        return await rollout(agent, *how, **wanted)

    monkeypatch.setattr(store, "rollout", counted)
    async with open_session(work, store, max_concurrent=2, max_resident=1) as control:
        for name in "ab":
            assert ending(await (await control.spawn("/root", name, "0")).outcome()) == completed("0")
        assert ending(await (await control.follow_up("/root/a", "0")).outcome()) == completed("0")
    assert read == []


@pytest.mark.parametrize("count", [0, -1, True, "3", 2.0])
async def test_number_of_records_that_is_not_one_fails_the_load_by_name(open_session: Open, count: Any) -> None:
    async with open_session(loading(lambda rollout: rollout.last(count))) as control:
        outcome = await (await control.spawn("/root", "a", "1")).outcome()
        assert outcome.status is TurnState.ERRORED
        assert "count is " in str(outcome.result)


async def test_rollout_that_is_kept_after_the_load_says_how_to_read_it(open_session: Open) -> None:
    kept = list[Rollout]()

    async def keep(rollout: Rollout) -> None:
        kept.append(rollout)

    async with open_session(loading(keep)) as control:
        await (await control.spawn("/root", "a", "1")).outcome()
        for read in (kept[0].whole(), kept[0].last(1), kept[0].since(bool)):
            with pytest.raises(RuntimeError, match=r"turn\.history\(\)"):
                await read
