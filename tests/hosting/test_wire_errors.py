"""An error that a worker raises is the same error for the caller (harm)."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import statemachine.errors
from statemachine import SessionConfig
from statemachine.errors import InvalidConfig, Refusal, RemoteError, StoreFull, ThreadLost
from statemachine.hosting import SessionClient, SessionHost, wire
from statemachine.runtime import AgentControl
from tests.hosting.work import CONFIG, QUICK, work

OF_JUDGES = {"DrawingUnavailable", "IllegalMove", "PropertyViolation"}
"""These have facts that cannot be sent; no verb raises them, nor does the opening of a session."""
FACTS: dict[str, Any] = {
    **{"agents": (1, 2), "holders": (1, 2), "queued": (1, 2), "paths": ("/root/a", "/root/b"), "roles": ("a", "b")},
    **{"agent": 1, "owner": 7, "line": 3, "seconds": 2.0, "timeout": -1.0, "most": 60.0, "role": "a"},
    **dict.fromkeys(("size", "max_bytes", "bytes_max", "cap", "depth", "max_depth", "max_agents", "max_queued"), 1),
    **dict.fromkeys(("unread", "promised", "max_unread", "turn", "mail", "holder", "unread_max", "max_resident"), 1),
}
"""Name of a fact -> a value of it; a text where there is none."""


def sent(error: Exception) -> Exception:
    """Returns the error as its caller gets it."""
    return wire.error_in(*wire.unpack(wire.refusal_of(1, error))[2:])


def words_of(kind: type[Exception]) -> list[str]:
    """Returns the names of what an error of this class is made of; none if it is of its text, as Python's are."""
    words = [*inspect.signature(kind.__init__).parameters][1:]
    return [] if "kwargs" in words else words


def facts_of(error: Exception) -> dict[str, Any]:
    """Returns what the error is made of."""
    return {word: getattr(error, word) for word in words_of(type(error))}


ERRORS = [getattr(statemachine.errors, name) for name in statemachine.errors.__all__ if name not in OF_JUDGES]
OF_THEIR_TEXT = (InvalidConfig, ThreadLost)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_that_a_verb_or_an_opening_may_raise_is_for_its_caller_the_same(kind: type[Exception]) -> None:
    is_its_text = kind in OF_THEIR_TEXT
    error = kind("what is wrong") if is_its_text else kind(*[FACTS.get(word, f"the {word}") for word in words_of(kind)])
    there = sent(error)
    assert (type(there), str(there), facts_of(there)) == (kind, str(error), facts_of(error))


@pytest.mark.parametrize("kind", [TypeError, ValueError])
def test_error_of_python_that_verbs_raise_is_for_its_caller_the_same(kind: type[Exception]) -> None:
    there = sent(kind("a target is a path"))
    assert (type(there), str(there)) == (kind, "a target is a path")


class OfThisWorker(StoreFull):
    """What no caller knows, derived from what each does."""


class Unknown(Refusal):
    """What no caller knows, nor what it is derived from."""

    text = "refused for a reason of its own"


def test_error_of_a_class_that_callers_do_not_know_is_of_the_next_one_that_they_do() -> None:
    there = sent(OfThisWorker("a.db", "no room"))
    assert (type(there), there.args) == (StoreFull, ("a.db", "no room"))
    for error, text in (
        (Unknown(), "Unknown: refused for a reason of its own"),
        (KeyError("x"), "KeyError: 'x'"),
        (UnicodeError("x"), "UnicodeError: x"),
    ):
        there = sent(error)
        assert (type(there), str(there)) == (RemoteError, text)


@pytest.mark.parametrize("name", [*sorted(OF_JUDGES), "StoreFull", "UnknownAgent", "TraceError"])
def test_error_with_facts_that_this_version_cannot_read_is_told_by_its_name_and_text(name: str) -> None:
    there = wire.error_in(name, "no such thing", {"depth": 5, "state": 1, "problem": 5})
    assert (type(there), str(there)) == (RemoteError, f"{name}: no such thing")


async def open_agents(place: Path) -> None:
    """Leaves a session there with two agents that are open."""
    async with AgentControl.open(place / "a.db", work, CONFIG) as control:
        for name in ("x", "y"):
            await (await control.spawn("/root", name, "go")).outcome()


@pytest.mark.anyio
async def test_session_that_is_too_large_for_its_configuration_is_told_so_to_its_callers(place: Path) -> None:
    place.mkdir()
    await open_agents(place)
    too_small = SessionConfig(max_agents=1)
    with pytest.raises(InvalidConfig) as here:
        async with AgentControl.open(place / "a.db", work, too_small):
            pass
    async with SessionHost(place, work, too_small, **QUICK), SessionClient(place) as client:
        with pytest.raises(InvalidConfig) as there:
            await client.session("a").list()
    assert str(there.value) == str(here.value)
    assert "the log needs max_agents of at least 2" in str(there.value)
