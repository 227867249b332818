"""What all tests share: failed asserts of the scenario helper show their values."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from hypothesis import HealthCheck, settings

from model.postgres_server import Server, server

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell; programs under test inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest.register_assert_rewrite("tests.core.scenario")

# How long an example takes says what else the machine does.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server of PostgreSQL, one for all tests of a process. It takes no power cut: `fsync` is off."""
    with server("fsync=off", "max_connections=200") as found:
        yield found


@pytest.fixture
def new_dsn(postgres: Server, numbers: Iterator[int]) -> Callable[[], str]:
    """Makes the DSN of a session that no other test has."""
    return lambda: postgres.dsn(f"session {next(numbers)}")


@pytest.fixture(scope="session")
def numbers() -> Iterator[int]:
    """Numbers that are given once."""
    return count(1)


@pytest.fixture
def dsn(new_dsn: Callable[[], str]) -> str:
    """The DSN of a session that no other test has."""
    return new_dsn()
