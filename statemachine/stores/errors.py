"""Errors of stores. The message says what to do next; no error loses anything that was durable.

Different causes are different classes (S12). `path` is the file of the session ("memory" if there is none) or its DSN,
without a password; `problem` is what was found; the advice is the same for all errors of a class, or one for files and
one for databases.
"""

from __future__ import annotations

from typing import ClassVar

from statemachine.core.exact import bounded

__all__ = [
    "AgentCorrupt",
    "ConnectionLost",
    "DriverMissing",
    "ForeignFile",
    "NewerSchema",
    "OlderSchema",
    "SessionInUse",
    "SessionUnnamed",
    "StoreBusy",
    "StoreClosed",
    "StoreCorrupt",
    "StoreError",
    "StoreExhausted",
    "StoreExists",
    "StoreFull",
    "StoreMissing",
    "StoreReadOnly",
    "StoreUnreachable",
    "Unstorable",
]

PATH_MAX, PROBLEM_MAX = 1_000, 1_000
"""Most characters that a message has of a path, and of what was found; the attributes have all of it."""


class StoreError(Exception):
    """The store cannot do what was asked. This class itself means a failure of disk or system, as `problem` says."""

    advice: ClassVar[str] = "mend that and open the session again; everything acknowledged before is there"
    in_database: ClassVar[str | None] = None
    """The advice if the session is in a database; None: the same."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        advice = (self.in_database if "://" in self.path else None) or self.advice
        return f"{bounded(self.path, PATH_MAX)}: {bounded(self.problem, PROBLEM_MAX)}; {advice}"

    def __repr__(self) -> str:
        parts = [bounded(repr(part), PROBLEM_MAX) for part in self.args]
        return f"{type(self).__name__}({', '.join(parts)})"


class SessionInUse(StoreError):
    """Another owner has the session: it is open already, or was taken over. `owner` is their process id, or None if it
    is not known.
    """

    advice = (
        "use what has it open, if that is this process, or close it there; or open `SQLiteStore(path, takeover=True)`,"
        " which fences that one"
    )
    in_database = (
        "use what has it open, if that is this process, or close it there; or open `PostgresStore(dsn, takeover=True)`,"
        " which fences that one"
    )

    def __init__(self, path: str, problem: str, owner: int | None = None) -> None:
        super().__init__(path, problem)
        self.args = (path, problem, owner)
        self.owner = owner


class StoreBusy(StoreError):
    """Another process keeps the file locked."""

    advice = "end the other programs that write to this file (a paused owner, a database tool) and try again"
    in_database = "end the transactions that have the session locked (`pg_stat_activity` names them) and try again"


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
    in_database = (
        "name the primary server in the DSN, and a user who may create the schema `statemachine` there, or has all"
        " rights on its tables; reading needs no right but to read them"
    )


class StoreMissing(StoreError):
    """The file to read, or the directory for a new one, does not exist."""

    advice = "give another path, in a directory that is there"
    in_database = (
        "name another database or session in the DSN, or create the database (`createdb`); a session comes to be when"
        " it is opened as a store"
    )


class StoreCorrupt(StoreError):
    """The file is a session, but damaged."""

    advice = (
        "put it back from a copy, without the -wal and -shm that lie beside it now;"
        " `SQLiteStore.check` names all that is damaged"
    )
    in_database = "put it back from a backup of the database; `PostgresStore.check` names all that is damaged"


class AgentCorrupt(StoreCorrupt):
    """What the file has of one agent is damaged. `agent` is its id: where it was is perhaps not known any more."""

    advice = (
        "put it back from a copy, without the -wal and -shm that lie beside it now; or open the session without this "
        "agent and all below it, which are forgotten then: `SQLiteStore(path, without=[id])`"
    )
    in_database = (
        "put it back from a backup of the database; or open the session without this agent and all below it, which are "
        "forgotten then: `PostgresStore(dsn, without=[id])`"
    )

    def __init__(self, path: str, problem: str, agent: int) -> None:
        super().__init__(path, problem)
        self.args = (path, problem, agent)
        self.agent = agent


def corrupt(path: str, problem: str, agent: int | None) -> StoreCorrupt:
    """Returns the error for damage, of this one agent if it is known whose. The root is not one to do without."""
    return AgentCorrupt(path, f"agent {agent}: {problem}", agent) if agent else StoreCorrupt(path, problem)


class ForeignFile(StoreError):
    """The file is not a session, or the database has something else where sessions would be. It was not touched."""

    advice = "give another path"
    in_database = "name another database in the DSN"


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


class SessionUnnamed(StoreError):
    """The DSN does not say which session of the database is meant, or this is a name that no session has."""

    advice = (
        "give it 1 to 200 characters that can be printed, which take at most 240 bytes in a folder, where all but a-z,"
        " 0-9, _ and - takes three bytes or more; a DSN has it at the end, as in postgresql://host/database?session=NAME"
    )
    in_database = "name it at the end of the DSN, as in postgresql://host/database?session=NAME (1 to 200 characters)"


class DriverMissing(StoreError):
    """A session in PostgreSQL is asked for, and psycopg is not installed. Nothing was done."""

    advice = "install it with `pip install 'agent-statemachine[postgres]'`"


class StoreUnreachable(StoreError):
    """There is no connection to the server of the database. Nothing was done."""

    advice = (
        "start the server, or correct host, port, user and password in the DSN (a password is better in PGPASSWORD or"
        " ~/.pgpass), or let it take more connections"
    )


class ConnectionLost(StoreError):
    """The connection to the server of the database broke. All sessions of this process that it served have failed; what
    was being appended may be durable or not, which the next opening tells.
    """

    advice = "open the session again once the server is there; everything acknowledged before is there"
