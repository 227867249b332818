"""Serves callers of a worker: takes calls from websockets, and carries them out on the sessions that it has.

A call that cannot be carried out because the session is somewhere else, or on its way there, is answered with *moved*:
the client finds the owner and asks again.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from ssl import SSLContext
from typing import Any

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from statemachine.core.refusals import Refusal, SessionClosed, SessionDraining, StoreFailed
from statemachine.hosting import wire
from statemachine.runtime import AgentControl
from statemachine.sinks import log
from statemachine.stores.errors import (
    ConnectionLost,
    SessionInUse,
    StoreBusy,
    StoreClosed,
    StoreError,
    StoreUnreachable,
)

CALLS_MAX = 10_000
"""The most calls of one connection that are not answered yet."""
TOO_MANY = f"this client has {CALLS_MAX:,} calls that are not answered yet"
CONNECTIONS_MAX = 1_000


TARGETS = {"parent", "ref", "target"}
"""Arguments that may be a reference, which is sent as a list."""


class Moved(Exception):
    """The session is not here, or about to leave."""


ELSEWHERE = (
    *(Moved, SessionClosed, SessionDraining, StoreFailed),
    *(ConnectionLost, SessionInUse, StoreClosed, StoreUnreachable),
)
"""What says that the session has, or will have, another owner."""
Calls = dict[int, CancelScope]
"""Number of a call that is not answered yet -> what ends it."""
Carry = Callable[[str, Callable[[AgentControl], Awaitable[Any]]], Awaitable[Any]]
"""Makes a call of the session with this name. Raises `Moved`."""


class CallServer:
    """The websockets of one worker."""

    def __init__(self, carry: Carry, token: str, tls: SSLContext | None) -> None:
        self._carry, self._token, self._tls = carry, token, tls
        self._connections = 0

    async def listen(self, host: str, port: int) -> Server:
        """Begins to serve. Raises `OSError` if the address cannot be had."""
        return await serve(
            self._serve,
            host,
            port,
            process_request=self._check,
            subprotocols=[wire.SUBPROTOCOL],
            ssl=self._tls,
            max_size=wire.BYTES_MAX,
            compression=None,
            logger=wire.logs("server"),
            close_timeout=1,
            ping_interval=5,
            ping_timeout=10,
        )

    def _check(self, connection: ServerConnection, request: Any) -> Any:
        """Refuses a caller without the token, before anything is read from it."""
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {self._token}".encode()):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "the token is wrong\n")
        if self._connections >= CONNECTIONS_MAX:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        self._connections += 1
        calls: Calls = {}
        try:
            async with anyio.create_task_group() as tasks:
                with suppress(ConnectionClosed, ValueError):
                    async for message in connection:
                        await self._take(tasks, connection, calls, message)
                tasks.cancel_scope.cancel()  # nothing waits for the answers any more
        finally:
            self._connections -= 1

    async def _take(
        self, tasks: TaskGroup, connection: ServerConnection, calls: dict[int, CancelScope], message: Any
    ) -> None:
        """Begins a call, or ends one whose caller has gone. Raises `ValueError` for what is not in the protocol."""
        number, call = call_in(message)
        if call is None:
            if (scope := calls.get(number)) is not None:
                scope.cancel()
            return
        session, verb, given = call
        if number in calls:
            raise ValueError("this number is in use")
        if len(calls) >= CALLS_MAX:  # the others go on; nothing more is read before this is said
            await connection.send(wire.refusal_of(number, StoreBusy(session, TOO_MANY)))
            return
        calls[number] = CancelScope()
        tasks.start_soon(self._answer, connection, calls, number, session, verb, given)

    async def _answer(
        self,
        connection: ServerConnection,
        calls: Calls,
        number: int,
        session: str,
        verb: str,
        given: dict[str, Any],
    ) -> None:
        try:
            with calls[number]:
                reply = await self._reply(number, session, verb, given)
                with suppress(ConnectionClosed):
                    await connection.send(reply)
        finally:
            del calls[number]

    async def _reply(self, number: int, session: str, verb: str, given: dict[str, Any]) -> bytes:
        try:
            return await wire.answer_of(number, await self._carry(session, partial(called, verb=verb, given=given)))
        except ELSEWHERE:
            return wire.pack([number, "moved"])
        except Exception as error:  # whatever it is, the caller is told
            if not isinstance(error, Refusal | StoreError | TypeError | ValueError):
                log.warning("a call of %s failed", verb, exc_info=True)
            return wire.refusal_of(number, error)


def call_in(message: str | bytes) -> tuple[int, tuple[str, str, dict[str, Any]] | None]:
    """Returns the number of a call, and the call; None: its caller has gone. Raises `ValueError`."""
    said: list[Any] = wire.unpack(message)
    if type(said) is list and [type(each) for each in said] in ([int], [int, str, str, dict]):
        return said[0], None if len(said) == 1 else (said[1], said[2], said[3])
    raise ValueError("a call is [number, session, verb, arguments]")


async def called(control: AgentControl, verb: str, given: dict[str, Any]) -> Any:
    """Calls a verb. Returns its answer as it is sent. Raises what the verb raises, and `ValueError` for no verb."""
    if verb not in wire.ANSWERS:
        raise ValueError(f"{verb!r:.100} is {wire.NOT_A_VERB}")
    arguments = {word: wire.target_in(value) if word in TARGETS else value for word, value in given.items()}
    if "ref" in arguments:
        handle = await control.handle(arguments.pop("ref"))
        if verb == "outcome":
            return await wire.said(verb, await handle.outcome())
        arguments["request"] = handle
    return await wire.said(verb, await getattr(control, verb)(**arguments))
