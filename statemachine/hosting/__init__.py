"""Hosts sessions that stand in PostgreSQL on any number of processes, and calls them from anywhere.

`SessionHost` runs in each of N identical processes; `SessionClient` calls sessions wherever they are. Read
`machines.py` and `rules.py` (what a lease is, who takes it), `directory.py` (where it is written down) and `leases.py`
(that in the database), then `host.py`, `wire.py` and `client.py`. What is promised stands in specs/beyond-one-machine.md.
May import: `core`, `log`, `runtime`, `stores`, `stores.postgres`, `errors`, `lazy`, `anyio`, `websockets`, `psycopg`.
May not know: SQLite, what judges it.
"""

from typing import TYPE_CHECKING

from statemachine.hosting.errors import HostingMissing, HostMissing, RemoteError
from statemachine.lazy import lazily as _lazily

if TYPE_CHECKING:
    from statemachine.hosting.client import RemoteHandle, RemoteSession, SessionClient
    from statemachine.hosting.host import SessionHost

__all__ = [
    "HostMissing",
    "HostingMissing",
    "RemoteError",
    "RemoteHandle",
    "RemoteSession",
    "SessionClient",
    "SessionHost",
]

_find = _lazily(__name__, __all__, ("statemachine.hosting.host", "statemachine.hosting.client"))


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        try:
            return _find(name)
        except ModuleNotFoundError as error:
            raise HostingMissing(f"{error.name} cannot be imported") from error
