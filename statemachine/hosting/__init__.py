"""Hosts sessions, and calls them from anywhere: those of a database in PostgreSQL on any number of processes, those of
a folder of SQLite files in one process, without a server.

`SessionHost` runs in each of N identical processes; `SessionClient` calls sessions wherever they are. Read
`machines.py` and `rules.py` (what a lease is, who takes it), `directory.py` (where it is written down), `leases.py`
(that in a database), `folder.py` (that in a folder), then `blocks.py` (when a host or a client may be used), `host.py`,
`wire.py`, and of the client `patience.py`, `talk.py` (with one worker), `remote.py` (the verbs) and `client.py`. What
is promised stands in specs/beyond-one-machine.md.
May import: `core`, `log`, `runtime`, `stores`, `stores.postgres`, `stores.sqlite`, `errors`, `eventloops`, `lazy`,
`pauses`, `sinks`, `anyio`, `websockets`, `psycopg`.
May not know: what judges it. Only `leases.py` knows PostgreSQL, only `folder.py` and what it imports know SQLite.
"""

from typing import TYPE_CHECKING

from statemachine.hosting.errors import FolderCorrupt, FolderInUse, HostingMissing, HostMissing, RemoteError
from statemachine.lazy import lazily as _lazily

if TYPE_CHECKING:
    from statemachine.hosting.client import SessionClient
    from statemachine.hosting.host import SessionHost
    from statemachine.hosting.remote import RemoteHandle, RemoteSession

__all__ = [
    "FolderCorrupt",
    "FolderInUse",
    "HostMissing",
    "HostingMissing",
    "RemoteError",
    "RemoteHandle",
    "RemoteSession",
    "SessionClient",
    "SessionHost",
]

_find = _lazily(
    __name__, __all__, ("statemachine.hosting.host", "statemachine.hosting.client", "statemachine.hosting.remote")
)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        try:
            return _find(name)
        except ModuleNotFoundError as error:
            raise HostingMissing(f"{error.name} cannot be imported") from error
