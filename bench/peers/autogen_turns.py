"""Turns on the in-memory runtime of autogen-core: a turn is a message to an agent and its result, not durable."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from autogen_core import (
    AgentId,
    AgentInstantiationContext,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    TopicId,
    TypeSubscription,
    message_handler,
)

from bench.peers.workload import AGENTS, WARM_UP_SECONDS, Way, Work, answer, main


@dataclass
class Message:
    text: str


class Replying(RoutedAgent):
    @message_handler
    async def on_text(self, message: Message, ctx: MessageContext) -> Message:  # noqa: ARG002
        return Message(answer(message.text))


class Listening(RoutedAgent):
    """A published message has no reply, so the result goes into a queue that its publisher reads."""

    def __init__(self, results: asyncio.Queue[Message]) -> None:
        super().__init__("puts results into a queue")
        self.results = results

    @message_handler
    async def on_text(self, message: Message, ctx: MessageContext) -> None:  # noqa: ARG002
        self.results.put_nowait(Message(answer(message.text)))


async def send(seconds: float) -> tuple[int, float]:
    runtime, work = SingleThreadedAgentRuntime(), Work()
    await Replying.register(runtime, "worker", lambda: Replying("replies"))
    runtime.start()

    async def turn(agent: str, message: str) -> str:
        reply = await runtime.send_message(Message(message), AgentId("worker", agent))
        return str(reply.text)

    await work.in_tasks(turn, WARM_UP_SECONDS)
    measured = await work.in_tasks(turn, seconds)
    await runtime.stop_when_idle()
    return measured


async def publish(seconds: float) -> tuple[int, float]:
    runtime, work = SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False), Work()
    results = {str(agent): asyncio.Queue[Message]() for agent in range(AGENTS)}
    await Listening.register(
        runtime, "worker", lambda: Listening(results[AgentInstantiationContext.current_agent_id().key])
    )
    await runtime.add_subscription(TypeSubscription("mail", "worker"))
    runtime.start()

    async def turn(agent: str, message: str) -> str:
        await runtime.publish_message(Message(message), TopicId("mail", agent))
        return (await results[agent].get()).text

    await work.in_tasks(turn, WARM_UP_SECONDS)
    measured = await work.in_tasks(turn, seconds)
    await runtime.stop_when_idle()
    return measured


if __name__ == "__main__":
    main(
        "autogen-core",
        "autogen-core",
        False,
        [
            Way("send_message, 8 tasks that wait for their reply", lambda seconds: asyncio.run(send(seconds))),
            Way("publish_message, 8 tasks that wait for the result", lambda seconds: asyncio.run(publish(seconds))),
        ],
    )
