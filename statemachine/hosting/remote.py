"""The verbs of a session that may be anywhere, as a client gives them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias
from uuid import uuid4

from attrs import field, frozen

from statemachine.core.effects import ClosedAgents, Forgotten, Interrupted, Resumed
from statemachine.core.exact import shown, text
from statemachine.core.records import Outcome
from statemachine.runtime.checks import headers_of, key_of, number_of, reference_of, text_of
from statemachine.runtime.handles import AgentRef, foreign
from statemachine.runtime.settings import DEFAULT_ROLE, wrap
from statemachine.runtime.status import AgentStatus
from statemachine.stores import limits
from statemachine.stores.protocol import LogRecord

__all__ = ["RemoteHandle", "RemoteSession"]

Target: TypeAlias = "str | int | AgentRef | RemoteHandle"
Headers = Mapping[str, Any] | None


class Caller(Protocol):
    """Calls verbs of sessions, as a `SessionClient` does."""

    async def call(self, session: str, verb: str, given: dict[str, Any]) -> Any:
        """Calls a verb of a session."""
        ...


@frozen(eq=False)
class RemoteHandle:
    """A handle of a request of a session that may be anywhere. Verbs of another session raise `TypeError` for it."""

    ref: AgentRef
    _session: RemoteSession = field(repr=False)

    async def outcome(self) -> Outcome:
        """Returns how the turn ended that took the request as input, as soon as it has, whichever workers have the
        session meanwhile. Raises as a call does.
        """
        found: Outcome = await self._session.call("outcome", ref=as_list(self.ref))
        return found


@frozen
class RemoteSession:
    """The verbs of a session that may be anywhere. They do what those of `AgentControl` do, and raise the same
    refusals, `SessionClosed` once the client was left; besides `HostMissing`, `RemoteError` and `StoreError`. `spawn`,
    `send`, `follow_up` and `start` are made once, also without a `key`; of the others, a call whose worker dies is made
    again. Two are equal if they are the same session of the same database or folder, whichever client calls it.
    """

    client: Caller = field(repr=False, eq=False)
    name: str
    _place: str = field(repr=False)

    async def call(self, verb: str, **given: Any) -> Any:
        """Calls a verb with these arguments, as JSON has them."""
        return await self.client.call(self.name, verb, given)

    async def spawn(
        self,
        parent: Target,
        name: str,
        message: str,
        settings: Any = None,
        *,
        role: str = DEFAULT_ROLE,
        headers: Headers = None,
        key: str | None = None,
    ) -> RemoteHandle:
        """See `AgentControl.spawn`."""
        name, role = text_of(name, limits.NAME), text_of(role, limits.ROLE)
        wrap(role, settings)  # raises what it would raise there
        given = {"parent": self._as_sent(parent), "name": name, "settings": settings, "role": role}
        return await self._request("spawn", given, message, headers, key)

    async def send(self, target: Target, message: str, *, headers: Headers = None, key: str | None = None) -> int:
        """See `AgentControl.send`."""
        given = work_given({"target": self._as_sent(target)}, message, headers, key)
        mail: int = await self.call("send", **given)
        return mail

    async def follow_up(
        self, target: Target, message: str, *, headers: Headers = None, key: str | None = None
    ) -> RemoteHandle:
        """See `AgentControl.follow_up`."""
        return await self._request("follow_up", {"target": self._as_sent(target)}, message, headers, key)

    async def start(
        self, target: Target, message: str, *, headers: Headers = None, key: str | None = None
    ) -> RemoteHandle:
        """See `AgentControl.start`."""
        return await self._request("start", {"target": self._as_sent(target)}, message, headers, key)

    async def _request(
        self, verb: str, given: dict[str, Any], message: str, headers: Headers, key: str | None
    ) -> RemoteHandle:
        return RemoteHandle(await self.call(verb, **work_given(given, message, headers, key)), self)

    async def withdraw(self, request: RemoteHandle | AgentRef) -> None:
        """See `AgentControl.withdraw`."""
        await self.call("withdraw", ref=as_list(self._named(request)))

    async def interrupt(self, target: Target, *, subtree: bool = False) -> Interrupted:
        """See `AgentControl.interrupt`."""
        found: Interrupted = await self.call("interrupt", target=self._as_sent(target), subtree=bool(subtree))
        return found

    async def close(self, target: Target) -> ClosedAgents:
        """See `AgentControl.close`."""
        found: ClosedAgents = await self.call("close", target=self._as_sent(target))
        return found

    async def resume(self, target: Target) -> Resumed:
        """See `AgentControl.resume`."""
        found: Resumed = await self.call("resume", target=self._as_sent(target))
        return found

    async def forget(self, target: Target) -> Forgotten:
        """See `AgentControl.forget`."""
        found: Forgotten = await self.call("forget", target=self._as_sent(target))
        return found

    async def status(self, target: Target) -> AgentStatus:
        """See `AgentControl.status`."""
        found: AgentStatus = await self.call("status", target=self._as_sent(target))
        return found

    async def list(self, prefix: str = "/root", *, closed: bool = False) -> tuple[AgentStatus, ...]:
        """See `AgentControl.list`."""
        found: tuple[AgentStatus, ...] = await self.call(
            "list", prefix=text_of(prefix, limits.PATH), closed=bool(closed)
        )
        return found

    async def history(self, target: Target) -> tuple[LogRecord, ...]:
        """See `AgentControl.history`."""
        found: tuple[LogRecord, ...] = await self.call("history", target=self._as_sent(target))
        return found

    def _named(self, value: object) -> object:
        """Returns the reference that a handle has, and any other value as it is. Raises `TypeError` for a handle of
        another session: its numbers are those of other agents and mails here.
        """
        if not isinstance(value, RemoteHandle):
            return value
        if value._session != self:  # pyright: ignore[reportPrivateUsage]
            raise foreign(value)
        return value.ref

    def _as_sent(self, target: object) -> Any:
        """Returns a target as it is sent. Raises `TypeError` for what is not one of this session."""
        return as_sent(self._named(target))

    def handle(self, ref: AgentRef) -> RemoteHandle:
        """Returns the handle of an earlier request. `outcome` raises `UnknownRequest` if it was never made."""
        return RemoteHandle(reference_of(ref), self)


# Values are looked at before they are sent: what `AgentControl` refuses is refused in the same words.


def as_list(ref: object) -> list[Any]:
    """Returns a reference as it is sent. Raises `TypeError`."""
    found = reference_of(ref)
    return [found.id, found.path, found.mail]


def as_sent(target: object) -> Any:
    """Returns a target as it is sent. Raises `TypeError` for what is not one."""
    if isinstance(target, AgentRef):
        return as_list(target)
    path = text(target)
    found = number_of(target) if path is None else path
    if found is None:
        raise TypeError(f"a target is a path, an id or a reference, not {shown(target)}")
    return found


def work_given(given: dict[str, Any], message: object, headers: object, key: object) -> dict[str, Any]:
    """Returns the arguments of a verb that gives work. It has a key, so that it can be repeated. Raises `TypeError`,
    `TooLarge` and `InvalidHeaders`.
    """
    said = headers_of(headers)
    return {
        **given,
        "message": text_of(message, limits.MESSAGE),
        "headers": None if said is None else json.loads(said),
        "key": uuid4().hex if key is None else key_of(key),
    }
