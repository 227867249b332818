"""Says what a directory of sessions is: it knows which sessions need an owner, which has one, and where.

A host looks into it, takes sessions from it and gives them back (`HostDirectory`); a client finds the host there, or
leaves a request (`ClientDirectory`). How sessions are held, called and left is the same for all directories (`host.py`,
`client.py`). There are two: a database in PostgreSQL, for any number of workers (`leases.py`), and a folder of SQLite
files, for one (`folder.py`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from attrs import field, frozen

from statemachine.stores.options import check_place
from statemachine.stores.places import is_dsn
from statemachine.stores.protocol import Store

Place = str | os.PathLike[str]
"""What names a directory: the DSN of a database, without a session, or the path of a folder."""


@frozen
class Where:
    """Where a worker can be reached. It serves callers who have the token, which stands in the directory alone."""

    address: str
    """A URI of websockets."""
    token: str = field(repr=False)


@frozen
class Claimed:
    """A session that a worker has claimed."""

    id: int
    name: str
    epoch: int


@frozen
class Ask:
    """What a caller wants of a session."""

    session: int
    id: int
    request: bytes


@frozen
class Poll:
    """What a worker finds when it looks."""

    is_buried: bool
    """Others took it for dead: it has lost all sessions, and has joined again."""
    fair: int
    """Its share of the sessions that need an owner."""
    free: int
    """Sessions that need an owner and have none, after its claims."""
    most: int
    """How many it would have claimed."""
    claimed: tuple[Claimed, ...]
    asks: tuple[Ask, ...]


class HostDirectory(Protocol):
    """The sessions as a worker sees them. Its methods are called in one thread, and raise `StoreError`; `store`, `stir`
    and `until_asked` are called in the event loop.
    """

    shown: str
    """What names it, as it may be told."""
    ttl: float
    """Seconds of silence after which others take the worker for dead; without others, infinity."""
    is_alone: bool
    """Whether there is no other worker: a call of a session that this one does not have is a reason to claim it."""

    def join(self, where: Where) -> None:
        """Says that the worker is there, and where it can be reached."""
        ...

    def poll(self, held: Sequence[int], spare: int, draining: bool) -> Poll:
        """Says that the worker lives, and claims sessions unless it drains. `held` are those that it has; so many of
        them are spare: they take no room, because they cannot be opened.
        """
        ...

    def want(self, name: str) -> None:
        """Asks for a session that a caller of this worker has called. Returns when it will be claimed, unless there is
        no room, whatever becomes of the process.
        """
        ...

    def store(self, claimed: Claimed) -> Store:
        """Returns the store of a session that was claimed. It is not opened yet."""
        ...

    def asked(self, session: int) -> int:
        """Returns how often callers have asked for the session."""
        ...

    def unload(self, claimed: Claimed, asked: int) -> bool:
        """Says that a session, which this worker is about to leave, needs no owner. Returns whether it said so: not if
        a caller has asked for it meanwhile.
        """
        ...

    def give_back(self, claimed: Claimed) -> None:
        """Frees a session, which is not open any more."""
        ...

    def done(self, asks: Sequence[int]) -> None:
        """Drops asks that were carried out."""
        ...

    def leave(self) -> None:
        """Says that the worker is there no more."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...

    def stir(self) -> None:
        """Has `until_asked` return: this worker has asked for a session, or has room again."""
        ...

    async def until_asked(self) -> None:
        """Returns when a caller may have asked for a session."""
        ...


class ClientDirectory(Protocol):
    """The sessions as a client sees them. Its methods are called in one thread, and raise `StoreError`."""

    @property
    def is_lost(self) -> bool:
        """Whether the connection was lost: another one has to be made."""
        ...

    def owner_of(self, session: str, /) -> Where | None:
        """Returns where the worker can be reached that has the session; None: none has it."""
        ...

    def is_there(self, where: Where) -> bool:
        """Tells whether the worker that could be reached there still is one."""
        ...

    def ask(self, session: str, request: bytes | None) -> None:
        """Asks for a session, which is made if it is missing. The request, if there is one, is carried out by the
        worker that then has it, whatever becomes of the caller.
        """
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


class Kind(Protocol):
    """A directory, as it is named: hosts and clients connect with it."""

    named: str
    """Its name, without a password. Two that have the same are the same."""

    def check_name(self, session: str) -> None:
        """Raises `SessionUnnamed` for what is not the name of a session."""
        ...

    def for_host(self, capacity: int, ttl: float, /) -> HostDirectory:
        """Connects, for a worker that has up to `capacity` sessions at a time. Raises `StoreError`."""
        ...

    def for_client(self) -> ClientDirectory:
        """Connects. Raises `StoreError`."""
        ...


def kind_at(place: Place) -> Kind:
    """Returns the directory that this names. Raises `StoreUnreachable` and `StoreMissing` for what names none,
    and `TypeError` for what is neither a DSN nor a path.
    """
    check_place(place, "sessions are in a database, which a DSN names, or in a folder, which a path names")
    module, name = ("leases", "Database") if is_dsn(place) else ("folder", "Folder")
    found: Kind = getattr(import_module(f"statemachine.hosting.{module}"), name)(place)
    return found
