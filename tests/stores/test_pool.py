"""The threads that stores share: calls in their order, nothing that waits for ever, and no thread left behind."""

from __future__ import annotations

import gc
import os
import threading
import tracemalloc
from collections.abc import Iterator
from itertools import count

import anyio
import pytest

from statemachine.stores import pool as pools
from statemachine.stores.pool import SerialQueue, ThreadPool

pytestmark = pytest.mark.anyio
SIZE = 3
NEVER_S = 1e9
numbers = count()


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    """A pool that has no thread yet, and has none at the end."""
    pool = ThreadPool(f"pool {next(numbers)}", SIZE)
    yield pool
    for thread in threads(pool):
        thread.join(60)
    assert threads(pool) == []


def threads(pool: ThreadPool) -> list[threading.Thread]:
    """The threads of the pool that make calls."""
    return [thread for thread in threading.enumerate() if thread.name == pool._name]


async def stop(*queues: SerialQueue) -> None:
    for queue in queues:
        queue.stop()


async def test_calls_of_a_queue_are_made_one_at_a_time_in_their_order_beside_those_of_others(pool: ThreadPool) -> None:
    queues = [SerialQueue(pool) for _ in range(5)]
    made: dict[int, list[int]] = {number: [] for number in range(5)}
    under_way: set[int] = set()
    together = threading.Barrier(SIZE)

    def call(queue: int, number: int) -> int:
        assert queue not in under_way, "two calls of a queue at once"
        under_way.add(queue)
        if number == 0 and queue < SIZE:
            together.wait(60)  # so many queues have a thread each
        made[queue].append(number)
        under_way.remove(queue)
        return number

    async def ask(queue: int, number: int) -> None:
        assert await queues[queue].do(call, queue, number) == number

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            for queue in range(5):
                tasks.start_soon(ask, queue, number)
    order = {queue: sorted(numbers) for queue, numbers in made.items()}
    assert order == {number: [*range(20)] for number in range(5)}
    assert len(threads(pool)) == SIZE
    await stop(*queues)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio starts tasks in any order
async def test_calls_are_made_in_the_order_in_which_they_were_asked_for(pool: ThreadPool) -> None:
    queue, others, made = SerialQueue(pool), [SerialQueue(pool) for _ in range(SIZE)], list[int]()
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(queue.do, made.append, number)
            tasks.start_soon(others[number % SIZE].do, len, made)
    assert made == [*range(50)]
    await stop(queue, *others)


async def test_queue_that_is_alone_has_one_thread_and_each_error_goes_to_its_caller(pool: ThreadPool) -> None:
    queue, other = SerialQueue(pool), SerialQueue(pool)

    def fail() -> None:
        raise ValueError("three")

    used = set[int]()
    for number in range(20):
        used.add(await queue.do(threading.get_ident))
        if number % 3 == 0:
            with pytest.raises(ValueError, match="three"):
                await queue.do(fail)
    assert len(used) == len(threads(pool)) == 1
    assert await other.do(lambda: "sound") == "sound"
    await stop(queue, other)


async def test_queues_that_do_not_get_on_do_not_keep_others_waiting(pool: ThreadPool) -> None:
    stuck, gate, begun = [SerialQueue(pool) for _ in range(2 * SIZE)], threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        begun.release()
        gate.wait(60)

    other = SerialQueue(pool)
    async with anyio.create_task_group() as tasks:
        for queue in stuck:
            tasks.start_soon(queue.do, hang)
        with anyio.fail_after(30):
            for _ in stuck:
                assert await anyio.to_thread.run_sync(begun.acquire, True, 30)
            assert await other.do(lambda: "goes on") == "goes on"
        assert len(threads(pool)) > 2 * SIZE
        gate.set()
    for queue in stuck:  # those that are too many end with their calls
        await queue.do(lambda: None)
    assert await other.do(lambda: pool._threads) <= SIZE + 1
    await stop(other, *stuck)


async def test_queues_that_get_on_share_the_threads_that_there_are(
    pool: ThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "STALL_S", 0.001)  # the pool looks often; no call takes as long as it may
    monkeypatch.setattr(pool, "_stalled", lambda: 0)
    queues, seen = [SerialQueue(pool) for _ in range(100)], list[int]()
    async with anyio.create_task_group() as tasks:
        for number in range(1000):
            tasks.start_soon(queues[number % 100].do, lambda: seen.append(pool._threads))
    assert len(seen) == 1000
    assert max(seen) <= SIZE
    await stop(*queues)


async def test_calls_in_line_are_made_before_the_threads_end(pool: ThreadPool) -> None:
    queue, gate, made = SerialQueue(pool), threading.Event(), list[int]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.do, gate.wait, 60)
        await anyio.wait_all_tasks_blocked()
        for number in range(3):
            tasks.start_soon(queue.do, made.append, number)
        await anyio.wait_all_tasks_blocked()
        queue.stop()
        queue.stop()
        gate.set()
    assert sorted(made) == [0, 1, 2]


async def test_queue_that_is_left_to_the_collector_gives_its_threads_back(pool: ThreadPool) -> None:
    first, second = SerialQueue(pool), SerialQueue(pool)
    await first.do(lambda: None)
    del first
    gc.collect()
    assert await second.do(lambda: "goes on") == "goes on"
    del second
    gc.collect()


async def test_queue_that_comes_while_the_threads_end_has_one(pool: ThreadPool) -> None:
    for number in range(300):
        queue = SerialQueue(pool)
        with anyio.fail_after(60):
            assert await queue.do(lambda number=number: number) == number
        queue.stop()


async def test_process_without_threads_refuses_the_first_queue_and_others_share_what_there_is(
    pool: ThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="new thread"):
            SerialQueue(pool)
    first = SerialQueue(pool)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        second = SerialQueue(pool)
        made = list[int]()
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon((first, second)[number % 2].do, made.append, number)
    assert sorted(made) == [*range(10)]
    assert len(threads(pool)) == 1
    await stop(first, second)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 and later, of processes with threads
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_queue_without_calls_keeps_no_memory_of_a_thread(pool: ThreadPool) -> None:
    queues = [SerialQueue(pool) for _ in range(20)]
    tracemalloc.start()
    try:
        for queue in queues:
            await queue.do(int)
        await queues[0].do(int)  # the thread has left the others
        found = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, pools.__file__)])
    finally:
        tracemalloc.stop()
    assert sum([stat.count for stat in found.statistics("filename")]) < 20
    await stop(*queues)


async def test_fork_begins_with_threads_of_its_own(pool: ThreadPool) -> None:
    queue = SerialQueue(pool)
    await queue.do(lambda: None)
    while pool._given:
        await anyio.lowlevel.checkpoint()
    with pool._lock:  # as of a thread that was starting another
        child = os.fork()
    if not child:
        found = list[str]()
        thread = threading.Thread(target=lambda: anyio.run(use, pool, found), daemon=True)
        thread.start()
        thread.join(30)
        os._exit(7 if found == ["made"] else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert await queue.do(lambda: "goes on") == "goes on"
    await stop(queue)


async def use(pool: ThreadPool, found: list[str]) -> None:
    queue = SerialQueue(pool)
    found.append(await queue.do(lambda: "made"))
    queue.stop()
