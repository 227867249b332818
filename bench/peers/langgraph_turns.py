"""Turns on LangGraph with its SQLite checkpointer: an agent is a thread, a turn is one run of its graph.

The state is the last message and the last result, and does not grow. The graph has the one node that does the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph

from bench.peers.workload import WARM_UP_SECONDS, Way, Work, answer, main

FULL_SYNC = 2  # PRAGMA synchronous: the file is synced at every commit


class State(TypedDict, total=False):
    message: str
    result: str


def node(state: State) -> State:
    return {"result": answer(state["message"])}


async def async_node(state: State) -> State:
    return {"result": answer(state["message"])}


def graph(saver: Any, work: Any) -> Any:
    """The documented way: a StateGraph."""
    builder = StateGraph(State)
    builder.add_node("work", work)
    builder.add_edge(START, "work")
    builder.add_edge("work", END)
    return builder.compile(checkpointer=saver)


def function(saver: Any, work: Any) -> Any:
    """The functional API, which writes one checkpoint less."""
    return entrypoint(checkpointer=saver)(work)


def config(agent: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": agent}}


def in_threads(durability: str, seconds: float) -> tuple[int, float]:
    with TemporaryDirectory(dir=".") as directory:
        path, work = Path(directory, "checkpoints.sqlite"), Work()
        with SqliteSaver.from_conn_string(str(path)) as saver:
            compiled = graph(saver, node)

            def turn(agent: str, message: str) -> str:
                state = compiled.invoke({"message": message}, config(agent), durability=durability)
                return str(state["result"])

            work.in_threads(turn, WARM_UP_SECONDS)
            measured = work.in_threads(turn, seconds)
            assert saver.conn.execute("PRAGMA synchronous").fetchone() == (FULL_SYNC,)
        check_file(path, work, graph)
    return measured


def in_tasks(form: Callable[[Any, Any], Any], durability: str, seconds: float) -> tuple[int, float]:
    async def run(path: Path, work: Work) -> tuple[int, float]:
        async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
            compiled = form(saver, async_node)

            async def turn(agent: str, message: str) -> str:
                state = await compiled.ainvoke({"message": message}, config(agent), durability=durability)
                return str(state["result"])

            await work.in_tasks(turn, WARM_UP_SECONDS)
            measured = await work.in_tasks(turn, seconds)
            async with saver.conn.execute("PRAGMA synchronous") as cursor:
                assert await cursor.fetchone() == (FULL_SYNC,)
        return measured

    with TemporaryDirectory(dir=".") as directory:
        path, work = Path(directory, "checkpoints.sqlite"), Work()
        measured = asyncio.run(run(path, work))
        check_file(path, work, form)
    return measured


def check_file(path: Path, work: Work, form: Callable[[Any, Any], Any]) -> None:
    """Opened again, the file has the result of the last turn of every agent, and a checkpoint or more of each turn."""
    with SqliteSaver.from_conn_string(str(path)) as saver:
        compiled = form(saver, node)
        for agent, message in work.last.items():
            assert compiled.get_state(config(agent)).values["result"] == answer(message)
        assert saver.conn.execute("SELECT count(*) FROM checkpoints").fetchone()[0] >= work.turns


if __name__ == "__main__":
    main(
        "LangGraph",
        "langgraph",
        True,
        [
            Way("SqliteSaver, 8 threads, StateGraph, durability sync", partial(in_threads, "sync")),
            Way("AsyncSqliteSaver, 8 tasks, StateGraph, durability sync", partial(in_tasks, graph, "sync")),
            Way("AsyncSqliteSaver, 8 tasks, StateGraph, durability async", partial(in_tasks, graph, "async")),
            Way("AsyncSqliteSaver, 8 tasks, functional API, durability sync", partial(in_tasks, function, "sync")),
            Way("AsyncSqliteSaver, 8 tasks, functional API, durability async", partial(in_tasks, function, "async")),
            Way("SqliteSaver, 8 threads, StateGraph, durability async", partial(in_threads, "async"), counts=False),
            # A message is not on disk before its turn has ended, so this is less work.
            Way(
                "AsyncSqliteSaver, 8 tasks, StateGraph, durability exit", partial(in_tasks, graph, "exit"), counts=False
            ),
        ],
    )
