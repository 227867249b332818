"""What is given to sessions, stores, hosts and clients by mistake is refused when they are made, and told what to give
(harm).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from statemachine import AgentControl, MemoryStore, Turn
from statemachine.hosting import SessionClient, SessionHost
from statemachine.stores import PostgresStore, SQLiteStore, read_session

DSN = "postgresql:///x"
NONE: list[Any] = [None, 5, b"x", 1.5, [], object()]


async def work(turn: Turn) -> str:
    return turn.path


def open_at(place: Any, **options: Any) -> Any:
    return AgentControl.open(place, work, **options)


def host(place: Any = DSN, **options: Any) -> Any:
    return SessionHost(place, work, **options)


def sqlite(**options: Any) -> Any:
    return SQLiteStore("never.db", **options)


def postgres(**options: Any) -> Any:
    return PostgresStore(f"{DSN}?session=x", **options)


def client(**options: Any) -> Any:
    return SessionClient(DSN, **options)


def memory(log: Any) -> Any:
    return MemoryStore(log)


@pytest.mark.parametrize("place", [*NONE, MemoryStore, SQLiteStore])
def test_session_at_no_place_is_refused_when_it_is_made_and_says_what_to_give(place: Any) -> None:
    with pytest.raises(TypeError, match=r"path of a file, as 'session.db', .* or a Store, as MemoryStore\(\), not "):
        open_at(place)


@pytest.mark.parametrize("place", NONE)
def test_host_client_or_store_at_no_place_is_refused_and_says_what_to_give(place: Any) -> None:
    for make in (host, SessionClient):
        with pytest.raises(TypeError, match="a DSN names, or in a folder, which a path names, not "):
            make(place)
    with pytest.raises(TypeError, match="give a text, as postgresql://"):
        PostgresStore(place)
    if not isinstance(place, bytes):
        for call in (SQLiteStore, read_session):
            with pytest.raises(TypeError, match=r"a path is a text or a Path, such as 'session.db', not "):
                call(place)


def test_session_without_a_name_is_refused_and_says_what_to_give(tmp_path: Path) -> None:
    name: Any
    for at in (SessionClient(DSN), SessionClient(tmp_path)):
        for name in (None, 5, b"x"):
            with pytest.raises(TypeError, match=r"session=.*; give a text, the name of a session"):
                at.session(name)


WRONG: list[tuple[Callable[..., Any], str, list[Any], str]] = [
    (open_at, "trace", [5, b"x", []], "a trace is at a path"),
    (open_at, "clock", [None, 5], "a clock is a function"),
    (sqlite, "busy_timeout", ["5", None, [], True], "give a number of seconds, 0 or more"),
    (postgres, "busy_timeout", ["5", None, [], True], "give a number of seconds, 0 or more"),
    (sqlite, "without", [5, None, "1", [0], [True], [None]], "without has ids of agents"),
    (postgres, "without", [5, None, "1", [0], [True], [None]], "without has ids of agents"),
    (memory, "log", [5, "x", {}, type], "give a MemoryLog"),
    (host, "ttl", ["5", None, True], "ttl=.*; give a number of seconds, more than 0"),
    (host, "poll", ["5", None, True], "poll=.*; give a number of seconds, more than 0"),
    (host, "idle_ttl", ["5", None, True], "idle_ttl=.*; give a number of seconds, more than 0"),
    (host, "grace", ["5", None, True], "grace=.*; give a number of seconds, 0 or more"),
    (host, "capacity", ["5", None, 1.5, True], "capacity=.*; give a whole number, 1 or more"),
    (host, "port", ["80", None, 1.5, True], "port=.*; give a whole number, 0 to 65535"),
    (host, "address", [None, 5, b"::1"], "address=.*; give a text"),
    (host, "advertise", [5, b"ws://x"], "advertise=.*; give a text, a URI"),
    (host, "tls", [True, "cert.pem"], "tls=.*; give an ssl.SSLContext"),
    (host, "config", [{}, 5], "opened with a SessionConfig"),
    (client, "patience", ["5", None, True], "patience=.*; give a number of seconds"),
    (client, "tls", [True, "cert.pem"], "tls=.*; give an ssl.SSLContext"),
]


@pytest.mark.parametrize(("make", "name", "values", "said"), WRONG, ids=[f"{w[0].__name__} {w[1]}" for w in WRONG])
def test_option_of_the_wrong_type_is_refused_when_it_is_given_and_says_what_to_give(
    make: Callable[..., Any], name: str, values: list[Any], said: str, tmp_path: Path
) -> None:
    first = (tmp_path / "s.db",) if make is open_at else ()
    for value in values:
        with pytest.raises(TypeError, match=said):
            make(*first, **{name: value})


OUT_OF_BOUNDS: list[tuple[Callable[..., Any], str, list[Any], str]] = [
    (sqlite, "busy_timeout", [-1, math.inf, math.nan, 10**400, -(10**400)], "give seconds, 0 or more, with an end"),
    (postgres, "busy_timeout", [-1, math.inf, math.nan, 10**400], "give seconds, 0 or more, with an end"),
    (host, "ttl", [0, -1, math.inf, math.nan, 10**400], "give seconds, more than 0, with an end"),
    (host, "grace", [-1, math.inf, math.nan, 10**400], "give seconds, 0 or more, with an end"),
    (host, "capacity", [0, -1], "give a whole number, 1 or more"),
    (host, "port", [-1, 65_536, 10**400], "give a whole number, 0 to 65535"),
    (host, "advertise", ["host:80", "http://host"], "give a URI of websockets"),
    (client, "patience", [-1, math.nan, -(10**400)], "give seconds, 0 or more"),
]


@pytest.mark.parametrize(
    ("make", "name", "values", "said"), OUT_OF_BOUNDS, ids=[f"{w[0].__name__} {w[1]}" for w in OUT_OF_BOUNDS]
)
def test_option_out_of_bounds_is_refused_when_it_is_given_and_says_what_to_give(
    make: Callable[..., Any], name: str, values: list[Any], said: str
) -> None:
    for value in values:
        with pytest.raises(ValueError, match=said):
            make(**{name: value})


def test_ids_to_be_left_out_are_taken_from_whatever_has_them() -> None:
    for given in ([1, 2], (2, 1), {1, 2}, iter([1, 2]), (number for number in (1, 2))):
        ids: Any = given
        assert SQLiteStore("never.db", without=ids).without == {1, 2}


def test_patience_of_a_client_may_be_without_an_end() -> None:
    assert isinstance(SessionClient(DSN, patience=math.inf), SessionClient)
