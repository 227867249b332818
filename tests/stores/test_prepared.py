"""Statements that are sent all the time are prepared once, and fail with psycopg's own errors."""

from __future__ import annotations

import threading

import psycopg
import pytest

from statemachine.stores.postgres import prepared
from statemachine.stores.postgres.statements import BIGINT, number
from tests.stores.databases import connected

PUT = "INSERT INTO pg_temp.numbers SELECT * FROM generate_series($1, $2)"
TYPES = (BIGINT, BIGINT)


def test_statement_is_prepared_once_on_each_connection_and_tells_how_many_rows_it_changed(dsn: str) -> None:
    for _ in range(2):
        with connected(dsn) as connection:
            connection.execute("CREATE TEMPORARY TABLE numbers (n bigint)")
            for first in range(3):
                assert prepared.change(connection, PUT, TYPES, (number(first), number(9))) == 10 - first
            asked = "SELECT count(*) FROM pg_prepared_statements WHERE statement = %s"
            assert connection.execute(asked, (PUT,)).fetchone() == (1,)


def test_statement_that_is_refused_raises_its_error_and_leaves_the_connection_as_it_was(dsn: str) -> None:
    with connected(dsn) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            prepared.change(connection, PUT, TYPES, (number(1), number(2)))
        connection.execute("CREATE TEMPORARY TABLE numbers (n bigint UNIQUE)")
        assert prepared.change(connection, PUT, TYPES, (number(1), number(2))) == 2
        with pytest.raises(psycopg.errors.UniqueViolation, match="already exists") as raised:
            prepared.change(connection, PUT, TYPES, (number(2), number(3)))
        assert raised.value.sqlstate == "23505"
        assert prepared.change(connection, PUT, TYPES, (number(3), number(3))) == 1


def test_connection_that_is_lost_is_told_as_such_every_time(dsn: str) -> None:
    with connected(dsn) as connection, connected(dsn) as other:
        connection.execute("CREATE TEMPORARY TABLE numbers (n bigint)")
        prepared.change(connection, PUT, TYPES, (number(1), number(2)))
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
        for _ in range(2):
            with pytest.raises(psycopg.OperationalError):
                prepared.change(connection, PUT, TYPES, (number(3), number(4)))
        assert connection.closed


def test_other_threads_run_while_the_server_works(dsn: str) -> None:
    with connected(dsn) as connection:
        connection.execute("CREATE TEMPORARY TABLE numbers (n bigint)")
        waits = "INSERT INTO pg_temp.numbers SELECT $1 FROM pg_sleep(60)"
        found = list[BaseException]()

        def put() -> None:
            try:
                prepared.change(connection, waits, (BIGINT,), (number(1),))
            except BaseException as error:
                found.append(error)

        putting = threading.Thread(target=put)
        putting.start()
        with connected(dsn) as other:
            asked = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE pid = %s AND query = %s"
            while other.execute(asked, (connection.info.backend_pid, waits)).fetchone() == (0,):
                pass
        putting.join()
        assert [type(error) for error in found] == [psycopg.errors.QueryCanceled]
