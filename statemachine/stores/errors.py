"""Errors of stores. The message says what to do next; no error loses anything that was durable.

Different causes are different classes (S12). `path` is the file of the session ("memory" if there is none), `problem`
is what was found; `advice` is the same for all errors of a class.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AgentCorrupt",
    "ForeignFile",
    "NewerSchema",
    "OlderSchema",
    "SessionInUse",
    "StoreBusy",
    "StoreClosed",
    "StoreCorrupt",
    "StoreError",
    "StoreExhausted",
    "StoreExists",
    "StoreFull",
    "StoreMissing",
    "StoreReadOnly",
    "Unstorable",
]


class StoreError(Exception):
    """The store cannot do what was asked. This class itself means a failure of disk or system, as `problem` says."""

    advice: ClassVar[str] = "mend that and open the session again; everything acknowledged before is there"

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}; {self.advice}"


class SessionInUse(StoreError):
    """Another owner has the session: it is open already, or was taken over. `owner` is their process id, or None if it
    is not known.
    """

    advice = (
        "one process owns a session: close it there, or open `SQLiteStore(path, takeover=True)`, which fences that one"
    )

    def __init__(self, path: str, problem: str, owner: int | None = None) -> None:
        super().__init__(path, problem)
        self.args = (path, problem, owner)
        self.owner = owner


class StoreBusy(StoreError):
    """Another process keeps the file locked."""

    advice = "end the other programs that write to this file (a paused owner, a database tool) and try again"


class StoreFull(StoreError):
    """The disk is full."""

    advice = "make room and open the session again; everything acknowledged before is there"


class StoreExists(StoreError):
    """There is a file where a new one is to be made. It was not touched."""

    advice = "give another path, or move that file away"


class StoreExhausted(StoreError):
    """The process has no file descriptor or thread left for the session. Nothing was done."""

    advice = "close what is open, or raise the limit (`ulimit -n` for files, `ulimit -u` for threads), and try again"


class StoreReadOnly(StoreError):
    """The file or its directory is read-only."""

    advice = "give this process the right to write the file and its directory; reading it needs no such right"


class StoreMissing(StoreError):
    """The file to read, or the directory for a new one, does not exist."""

    advice = "give another path, or create the directory"


class StoreCorrupt(StoreError):
    """The file is a session, but damaged."""

    advice = (
        "put it back from a copy, without the -wal and -shm that lie beside it now;"
        " `SQLiteStore.check` names all that is damaged"
    )


class AgentCorrupt(StoreCorrupt):
    """What the file has of one agent is damaged. `agent` is its id: where it was is perhaps not known any more."""

    advice = (
        "put it back from a copy, without the -wal and -shm that lie beside it now; or open the session without this "
        "agent and all below it, which are forgotten then: `SQLiteStore(path, without=[id])`"
    )

    def __init__(self, path: str, problem: str, agent: int) -> None:
        super().__init__(path, problem)
        self.args = (path, problem, agent)
        self.agent = agent


class ForeignFile(StoreError):
    """The file is not a session. It was not touched."""

    advice = "give another path"


class NewerSchema(StoreError):
    """A newer version of this library wrote the file. It was not touched."""

    advice = "open it with that version"


class OlderSchema(StoreError):
    """An older version wrote the file, so it cannot be read without changing it."""

    advice = "open it once as a store, which brings it up to date"


class StoreClosed(StoreError):
    """The store is not open."""

    advice = "open it first"


class Unstorable(StoreError):
    """A log cannot hold this value. Nothing was written, and the store can still be used."""

    advice = "record a JSON value"
