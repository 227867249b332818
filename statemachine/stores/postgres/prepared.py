"""Carries out a statement that is sent all the time, past psycopg's cursors.

The problem. psycopg makes a cursor for each statement, looks for a way to write each parameter, and looks the statement
up among the prepared ones: 40 of the 110 us that an append takes beside the disk, and the event loop waits meanwhile.

What is done. The statement is prepared once on a connection, and its parameters are bytes already. Sending it and
waiting for the answer are psycopg's, so what goes wrong is the same, and other threads run meanwhile.

What was rejected. libpq's own call that sends and waits (`PQexecPrepared`): it saves 5 us more, and does not tell a
connection that is lost from memory that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from statemachine.stores.postgres import driver

if TYPE_CHECKING:
    from psycopg import Connection

BINARY = 1
"""Number of the format in which parameters are sent."""

names: WeakKeyDictionary[Connection[tuple[Any, ...]], dict[str, bytes]] = WeakKeyDictionary()
"""Connection -> text of a statement that it has prepared -> its name."""


def change(
    connection: Connection[tuple[Any, ...]], text: str, types: Sequence[int], parameters: Sequence[bytes]
) -> int:
    """Carries out a statement that changes rows. Returns how many. `types` are the numbers of those of the parameters.
    Raises psycopg's errors.
    """
    with connection.lock:
        name = names.setdefault(connection, {}).get(text)
        if name is None:
            name = f"statemachine_{len(names[connection])}".encode()
            connection.pgconn.send_prepare(name, text.encode(), types)
            answer(connection)
            names[connection][text] = name
        connection.pgconn.send_query_prepared(name, parameters, [BINARY] * len(parameters))
        return answer(connection).command_tuples or 0


def answer(connection: Connection[tuple[Any, ...]]) -> Any:
    """Waits for the result of what was sent, and returns it. Raises psycopg's errors."""
    psycopg = driver.psycopg("")
    (result,) = connection.wait(psycopg.generators.execute(connection.pgconn))
    if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
        raise psycopg.errors.error_from_result(result)
    return result
