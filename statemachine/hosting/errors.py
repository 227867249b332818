"""What goes wrong between a client and the worker that has its session."""

from __future__ import annotations

from typing import ClassVar

from attrs import define

from statemachine.core.refusals import SessionClosed
from statemachine.stores.errors import StoreCorrupt, StoreError

__all__ = ["FolderCorrupt", "FolderInUse", "HostMissing", "HostingMissing", "RemoteError"]


class HostingMissing(Exception):
    """What hosts and clients need is not installed."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.problem}; install it with `pip install 'agent-statemachine[hosts]'`"


class HostMissing(Exception):
    """No worker took the session within the client's patience. A request with a key is carried out by the next worker
    that does; repeat it with the same key to get its answer.
    """

    def __init__(self, session: str, seconds: float) -> None:
        super().__init__(session, seconds)
        self.session, self.seconds = session, seconds

    def __str__(self) -> str:
        return (
            f"no worker took session {self.session!r:.100} within {self.seconds:g} s; start `statemachine host`, or "
            "give the workers more capacity"
        )


@define(auto_exc=True)
class ClientLeft(SessionClosed):
    """The client was left: for its callers the session is closed, as for those of an `AgentControl` that was left. It
    goes on elsewhere.
    """

    text: ClassVar[str] = (
        "the client was left, and a call that it has sent may be carried out all the same; call again with another "
        "client, which makes what gives work once if it has the same `key`"
    )


class FolderInUse(StoreError):
    """The folder has a host already. `owner` is the id of its process, or None if it is not known."""

    advice = (
        "one host has a folder: call its sessions with `SessionClient`, or end it there; for several hosts, keep the"
        " sessions in PostgreSQL"
    )

    def __init__(self, path: str, owner: int | None) -> None:
        super().__init__(path, f"process {owner or '(unknown)'} is the host of this folder")
        self.args = (path, owner)
        self.owner = owner


class FolderCorrupt(StoreCorrupt):
    """The host's own file of a folder is damaged. The sessions are not in it."""

    advice = (
        "move it away, with the -wal and -shm that lie beside it, and start the host again, which opens every session"
        " once; what callers had left there for a host is lost, and made again when they repeat it with its key"
    )


class RemoteError(Exception):
    """The worker refused a call with an error that this version does not know, or failed while it carried it out.
    `name` is the class of the error there.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text)
        self.name, self.text = name, text

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"
