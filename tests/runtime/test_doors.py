"""Whatever comes in at a public door, a value of another class or one that raises wherever it is touched: it is taken
or refused, by an error of its caller alone, and the session goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statemachine import (
    AgentControl,
    AgentRef,
    Cause,
    Entry,
    MemoryStore,
    SessionConfig,
    SQLiteStore,
    Thread,
    ThreadLost,
    Turn,
    TurnState,
    WaitMode,
)
from statemachine.core.machines import SessionState
from statemachine.core.refusals import InvalidConfig, Refusal
from statemachine.errors import NotJson, StoreError, UnknownAgent
from statemachine.runtime.control import inside
from statemachine.stores import Receipt, Store, Write
from tests.runtime.running import Open, VirtualLoop, completed, echo, ending, traced_sessions, virtual_time

FIXTURES = (traced_sessions, virtual_time)


class Raised(Exception):
    """What hostile values raise."""


def raises(*_: object, **__: object) -> Any:
    raise Raised("hostile")


HOSTILE: dict[str, Any] = {
    f"__{name}__": raises
    for name in (
        *("len", "bool", "str", "repr", "eq", "ne", "lt", "le", "gt", "ge", "hash", "format", "int", "float", "index"),
        *("iter", "contains", "getitem", "add", "radd", "sub", "rsub", "mul", "rmul", "neg", "trunc", "round"),
    )
}
METHODS = dict.fromkeys(("encode", "rstrip", "startswith", "isascii", "items", "keys", "values", "split"), raises)


class Plain:
    """Neither a text nor a number, and hostile."""


BadText: Any = type("BadText", (str,), {**HOSTILE, **METHODS})
BadKey: Any = type("BadKey", (str,), {"__lt__": raises})
BadWhole: Any = type("BadWhole", (int,), HOSTILE)
BadFloat: Any = type("BadFloat", (float,), HOSTILE)
BadDict: Any = type("BadDict", (dict,), {**HOSTILE, **METHODS})
BadList: Any = type("BadList", (list,), HOSTILE)
BadObject: Any = type("BadObject", (Plain,), HOSTILE)
LiesOfClass: Any = type("LiesOfClass", (Plain,), {"__class__": property(lambda _: str)})
LiesOfNumber: Any = type("LiesOfNumber", (Plain,), {"__class__": property(lambda _: int)})
Empty: Any = type("Empty", (str,), {"__len__": lambda _: 0, "encode": lambda *_: b""})
IsTheHost: Any = type(
    "IsTheHost", (Plain,), {"__ne__": lambda *_: False, "__eq__": lambda *_: True, "__hash__": raises}
)


def values() -> list[Any]:
    """Hostile values, new ones each time."""
    return [
        *(BadText("/root/a"), BadText("x"), BadWhole(1), BadWhole(-1), BadFloat(1.0), BadDict(a=1), BadList([1])),
        *(BadObject(), LiesOfClass(), LiesOfNumber(), Empty("x" * 100), IsTheHost()),
        *(
            10**400,
            -(10**400),
            10**5000,
            2**63,
            2**64,
            -(2**63),
            float("nan"),
            float("inf"),
            -float("inf"),
            -1.0,
            1e308,
        ),
        *("\ud800", "\x00", "", "/root/a", "a", "default", b"/root/a", bytearray(b"x"), None, True, False, 0, 1, 1.0),
        *(
            {"a": BadWhole(1)},
            [BadText("x")],
            {BadKey("b"): 1, BadKey("a"): 2},
            {1: object()},
            {"a": 10**5000},
            object,
            raises,
        ),
        *(AgentRef(BadWhole(1), BadText("/root/a"), BadWhole(0)), AgentRef(BadObject(), "x", BadObject())),
        *(AgentRef(10**400, "/root/a", 10**400), WaitMode.ALL, (BadText("/root/a"),), ["/root/a"], (BadObject(),)),
    ]


NUMBER = st.integers(0, len(values()) - 1)
"""A value by its place: hypothesis would show the value itself."""
DOORS: dict[str, tuple[str, ...]] = {
    "spawn": ("parent", "name", "message", "settings", "role", "sender", "headers", "key"),
    "send": ("target", "message", "sender", "headers", "key"),
    "follow_up": ("target", "message", "sender", "headers", "key"),
    "start": ("target", "message", "headers", "key"),
    "withdraw": ("request", "sender"),
    "interrupt": ("target", "subtree", "sender"),
    "close": ("target", "sender"),
    "resume": ("target", "sender"),
    "forget": ("target",),
    "shutdown": ("grace",),
    "status": ("target",),
    "list": ("prefix", "closed"),
    "history": ("target",),
    "handle": ("ref",),
    "events": ("unread_max",),
}
"""Verb of the host -> what it takes."""
OF_A_TURN: dict[str, tuple[str, ...]] = {
    "spawn": ("name", "message", "settings", "role", "headers", "key"),
    **{verb: tuple(set(DOORS[verb]) - {"sender"}) for verb in ("send", "follow_up", "withdraw", "interrupt", "close")},
    **{verb: DOORS[verb] for verb in ("status", "list", "history")},
    "resume": ("target",),
    "wait": ("timeout", "targets", "requests", "mode", "mail"),
    "record": ("entry",),
    "sleep": ("seconds",),
    "outcomes": (),
}
FINE: dict[str, Any] = {
    **{"parent": "/root", "name": "c", "message": "x", "settings": None, "role": "default", "sender": -1},
    **{"headers": None, "key": None, "target": "/root/b", "request": 0, "subtree": False, "grace": "soon"},
    **{"prefix": "/root", "closed": False, "ref": AgentRef(1, "/root/a", 0), "unread_max": 10, "timeout": 0},
    **{"targets": (), "requests": (), "mode": WaitMode.ANY, "mail": True, "entry": 1, "seconds": 0},
}
ERRORS = (Refusal, TypeError, ValueError, Raised, StoreError)
"""What a caller may get; the last is what the value itself has raised, where only its caller hears of it."""


Knock = tuple[bool, str, dict[str, int]]
"""Whether the host calls, or else a turn; the verb; parameter -> the value by its place."""


async def knock(one: Any, verb: str, numbers: Mapping[str, int], takes: tuple[str, ...]) -> None:
    """Calls the verb with these values, and with fine ones in the other places."""
    hostile = {name: values()[number] for name, number in numbers.items()}
    given_ = {name: hostile.get(name, FINE[name]) for name in takes}
    with anyio.move_on_after(1):
        try:
            if verb == "events":
                async with one.events(**given_):
                    await one.send("/root/a", "seen")
            elif verb == "outcomes":
                await one.outcomes(*hostile.values())
            else:
                await getattr(one, verb)(**given_)
        except ERRORS as error:
            str(error), repr(error)


async def knock_in_turn(store: Store, knocks: list[Knock], result: int) -> None:
    """Opens a session in which the host and a turn pass these values, and sees it go on and open again."""

    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a" or turn.number != 1:
            return await echo(turn)
        for is_host, verb, hostile in knocks:
            if not is_host:
                await knock(turn, verb, hostile, OF_A_TURN[verb])
        return values()[result]

    with TemporaryDirectory() as folder:
        await knock_at(AgentControl.open(store, work, trace=Path(folder, "trace.ndjson")), knocks)
    async with AgentControl.open(store, echo) as control:
        for agent in await control.list(closed=True):
            await control.history(agent.agent)


async def knock_at(opening: AgentControl, knocks: list[Knock]) -> None:
    """The session of which that is said."""
    async with opening as control:
        handle = await control.spawn("/root", "a", "x")
        await (await control.spawn("/root", "b", "x")).outcome()
        for is_host, verb, hostile in knocks:
            if is_host:
                await knock(control, verb, hostile, DOORS[verb])
        session = inside(control).session
        assert session.state is not SessionState.FAILED, session.error
        if session.state is SessionState.OPEN:
            assert (await handle.outcome()).status >= TurnState.COMPLETED
            last = await control.spawn("/root", "z", "the end")
            assert ending(await last.outcome()) == completed("the end")


@st.composite
def a_knock(draw: st.DrawFn) -> Knock:
    """At the door of the host or of a turn, with one hostile value or two."""
    is_host = draw(st.booleans())
    doors = DOORS if is_host else OF_A_TURN
    verb = draw(st.sampled_from(sorted(doors)))
    names = draw(st.lists(st.sampled_from(doors[verb] or ("handle", "more")), min_size=1, max_size=2, unique=True))
    return is_host, verb, {name: draw(NUMBER) for name in names}


QUIET = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


@QUIET
@given(st.lists(a_knock(), min_size=1, max_size=12), NUMBER)
def test_session_goes_on_whatever_values_its_host_and_its_turns_pass(knocks: list[Knock], result: int) -> None:
    options = {"loop_factory": VirtualLoop}
    anyio.run(knock_in_turn, MemoryStore(), knocks, result, backend="asyncio", backend_options=options)


# Each kind by itself


@pytest.mark.anyio
async def test_numbers_beyond_all_are_refused_like_others_that_are_too_large(open_session: Open) -> None:
    async with open_session(echo) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        for number in (2**63, 10**400, 10**5000, -(10**5000)):
            refused: list[Callable[[int], Any]] = [
                lambda n: control.shutdown(n * 10**400),
                control.status,
                control.history,
                lambda n: control.send("/root/a", "x", sender=n),
                control.withdraw,
                lambda n: control.handle(AgentRef(n, "/root/a", 0)),
                lambda n: control.handle(AgentRef(1, "/root/a", n)),
            ]
            for call in refused:
                with pytest.raises(Refusal) as error:
                    await call(number)
                assert len(str(error.value)) < 500
        assert ending(await (await control.follow_up("/root/a", "again")).outcome()) == completed("again")


@pytest.mark.anyio
async def test_sender_that_equals_the_host_and_is_another_value_is_refused(open_session: Open) -> None:
    async with open_session(echo) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        senders: list[Any] = [-1.0, IsTheHost()]
        for sender in senders:
            with pytest.raises(TypeError, match="a sender is an agent's id, or HOST"):
                await control.send("/root/a", "x", sender=sender)
        await control.send("/root/a", "x", sender=BadWhole(-1))
        assert len(await control.history("/root/a")) == 4


@pytest.mark.anyio
async def test_text_of_a_derived_class_is_taken_as_the_text_that_it_is(open_session: Open) -> None:
    async with open_session({"default": echo, "r": echo}) as control:
        handle = await control.spawn(BadText("/root"), BadText("a"), BadText("x"), key=BadText("k"), role=BadText("r"))
        assert ending(await handle.outcome()) == completed("x")
        assert (await control.spawn("/root", "a", "x", key="k", role="r")).ref == handle.ref
        assert [agent.path for agent in await control.list(BadText("/root/a"))] == ["/root/a"]


@pytest.mark.anyio
async def test_reference_with_hostile_parts_is_refused_and_never_meets_the_answers_of_others(
    open_session: Open,
) -> None:
    class Colliding:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, _: object) -> bool:
            raise Raised

    mail: Any = Colliding()
    async with open_session(echo) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        with pytest.raises(TypeError, match="a reference is an AgentRef"):
            await control.handle(AgentRef(1, "/root/a", mail))
        assert ending(await (await control.follow_up("/root/a", "again")).outcome()) == completed("again")


@pytest.mark.anyio
@pytest.mark.parametrize("make", [lambda: "10", lambda: None, lambda: 1.5, lambda: True, BadObject])
async def test_reader_with_a_buffer_of_the_wrong_type_is_refused_before_anything_happens(
    open_session: Open, make: Callable[[], Any]
) -> None:
    async with open_session(echo) as control:
        with pytest.raises(TypeError, match="unread_max is a whole number"):
            async with control.events(make()):
                pass
        assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("x")


@pytest.mark.anyio
async def test_wait_of_wrong_parts_is_refused_and_says_what_is_wanted(open_session: Open) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"targets": "/root/a"}, "targets are given as a tuple"),
        ({"requests": 0}, "requests are given as a tuple"),
        ({"mode": 1}, "a mode is WaitMode.ANY or WaitMode.ALL, not 1"),
        ({"targets": (BadObject(),)}, "a target is a path, an id or a reference"),
        ({"requests": ("0",)}, "a request is a handle"),
    ]

    async def work(turn: Turn) -> str:
        for parts, said in wrong:
            with pytest.raises(TypeError, match=said):
                await turn.wait(0, **parts)
        with pytest.raises(TypeError, match="is not a handle of this session"):
            await turn.outcomes(BadObject())
        await turn.wait(0, targets=[BadText("/root")], requests=[BadWhole(0)])  # type: ignore[arg-type]
        return "done"

    async with open_session(work) as control:
        assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("done")


@pytest.mark.anyio
async def test_turn_whose_attributes_its_code_has_changed_ends_as_the_turn_that_it_is(open_session: Open) -> None:
    async def work(turn: Turn) -> str:
        turn.number = BadObject()
        turn.agent = BadObject()
        await turn.drain()
        await turn.record("mine")
        return "done"

    async with open_session(work) as control:
        handle = await control.spawn("/root", "a", "x")
        assert ending(await handle.outcome()) == completed("done")
        assert Entry(1, 1, "mine") in await control.history("/root/a")


# What code raises


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise Raised


class Odd(Exception, metaclass=Nameless):
    pass


class SaysBadText(Exception):
    def __str__(self) -> str:
        words: str = BadText("words")
        return words


class Exits(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class BadGroup(ExceptionGroup[Exception]):
    derive = subgroup = split = raises


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SaysBadText(), "SaysBadText: words"),
        (Exits(), "Exits"),
        (Odd("words"), "Odd: words"),
        (BadGroup("two", [ValueError("a"), KeyError("b")]), "BadGroup: two (2 sub-exceptions)"),
        (BadGroup("two", [ThreadLost("a"), KeyError("b")]), "its thread died: BadGroup: two (2 sub-exceptions)"),
    ],
)
@pytest.mark.parametrize("where", ["run", "load", "flush", "init"])
async def test_exception_that_lies_about_its_words_is_that_of_its_turn_alone(
    open_session: Open, where: str, error: Exception, said: str
) -> None:
    asked: list[str] = []

    class Work(Thread):
        def __init__(self, agent: Any) -> None:
            super().__init__(agent)
            self.do("init")

        def do(self, what: str) -> None:
            if what == where and self.agent.path == "/root/a" and not asked:
                asked.append(what)
                raise error

        async def load(self, history: Any) -> None:
            self.do("load")

        async def run(self, turn: Turn) -> str:
            self.do("run")
            return "done"

        async def flush(self) -> None:
            self.do("flush")

    async with open_session(Work, max_concurrent=2, max_resident=1) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        if where != "flush":
            assert outcome.status is TurnState.ERRORED
            assert outcome.result.removeprefix("load failed: ").removeprefix("its thread died: ") == (
                said.removeprefix("its thread died: ")
            )
        for name in ("b", "c"):
            await (await control.spawn("/root", name, "x")).outcome()
        assert ending(await (await control.follow_up("/root/a", "x")).outcome()) == completed("done")
        assert asked == [where]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "make",
    [
        lambda: BadText("done"),
        lambda: BadDict(a=1),
        BadObject,
        lambda: BadList([1]),
        lambda: {BadKey("b"): 1},
        lambda: 10**5000,
    ],
)
async def test_result_that_raises_wherever_it_is_touched_is_taken_or_fails_its_turn_alone(
    open_session: Open, make: Callable[[], Any]
) -> None:
    async def work(turn: Turn) -> Any:
        return make() if turn.number == 1 else "fine"

    async with open_session(work) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        if outcome.status is TurnState.ERRORED:
            assert outcome.cause is Cause.FAILED
            assert outcome.result.startswith("ValueError: a turn returned a value of class ")
        else:
            assert outcome.result in ("done", {"b": 1})
        assert ending(await (await control.follow_up("/root/a", "x")).outcome()) == completed("fine")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "tells", [raises, lambda: float("nan"), lambda: 10**400, lambda: "noon", lambda: BadFloat(5.0)]
)
async def test_clock_of_the_host_that_fails_gives_one_warning_and_the_time_of_the_machine(
    tells: Callable[[], Any], caplog: pytest.LogCaptureFixture, anyio_backend: Any
) -> None:
    with caplog.at_level(logging.WARNING, "statemachine"):
        async with AgentControl.open(MemoryStore(), echo, clock=tells) as control:
            for name in ("a", "b"):
                assert ending(await (await control.spawn("/root", name, "x")).outcome()) == completed("x")
            ended = (await control.status("/root/a")).ended
    assert ended is not None
    assert (ended > 5.0, len(caplog.records)) in ((True, 1), (False, 0))


# Settings of a session, and stores


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("stop_grace", lambda: 10**400),
        ("load_timeout", lambda: BadFloat("nan")),
        ("max_agents", lambda: 10**5000),
        ("max_depth", lambda: 1.0),
        ("max_unread", LiesOfNumber),
        ("notify_interrupted", lambda: BadWhole(1)),
        ("notice", lambda: BadText("queue")),
        ("max_concurrent", BadObject),
    ],
)
def test_configuration_with_a_hostile_value_is_refused_by_name(name: str, make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidConfig, match=f"{name} must be"):
        SessionConfig(**{name: make()})


def test_configuration_has_exact_values() -> None:
    config = SessionConfig(
        max_concurrent=BadWhole(3), stop_grace=BadFloat(1.5), max_wait=BadWhole(7), max_agents=10**99
    )
    assert [type(value) for value in (config.max_concurrent, config.stop_grace, config.max_wait)] == [int, float, int]
    assert (config.execution_cap, config.stop_grace, config.max_wait) == (2, 1.5, 7)


@pytest.mark.parametrize("make", [dict, lambda: {"max_concurrent": 3}, lambda: 0, BadObject])
def test_session_is_not_opened_with_what_is_not_a_configuration(make: Callable[[], Any]) -> None:
    config = make()
    with pytest.raises(TypeError, match="a session is opened with a SessionConfig"):
        AgentControl.open(MemoryStore(), echo, config)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_store_refuses_hostile_values_and_is_used_on(kind: str, tmp_path: Path, anyio_backend: str) -> None:
    store: Any = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "session.db")
    with pytest.raises(TypeError, match="SessionConfig"):
        await store.open({})
    await store.open(SessionConfig())
    try:
        hostile: list[Any] = [
            Entry(2**63, 1, "x"),
            Entry(10**5000, 1, "x"),
            Entry(BadObject(), 1, "x"),
            Entry(1, 1, BadDict(a=1)),
            Entry(1, 1, BadObject()),
            BadObject(),
            "text",
        ]
        for record in hostile:
            with pytest.raises(StoreError, match="record a JSON value"):
                await store.append([Write((record,))])
        for receipt in (Receipt(BadText("k"), "r", "a"), Receipt("k", BadObject(), "a"), Receipt("k", "r", b"a")):  # type: ignore[arg-type]
            with pytest.raises(StoreError, match="record a JSON value"):
                await store.append([Write((), receipt)])
        for item in (BadObject(), None, "x"):
            with pytest.raises(StoreError, match="record a JSON value"):
                await store.append([item])
        for agent in (2**63, 10**5000, -(2**70)):
            assert await store.rollout(agent) == ()
        for call in (store.rollout, store.receipt):
            with pytest.raises(TypeError):
                await call(BadObject())
        assert await store.receipt(BadText("k")) is None
        await store.append([Write((Entry(0, 1, "fine"),), Receipt("k", "r", "a"))])
        assert await store.rollout(BadWhole(0)) == (Entry(0, 1, "fine"),)
        assert await store.receipt("k") == Receipt("k", "r", "a")
    finally:
        await store.close()


@pytest.mark.anyio
async def test_error_about_a_hostile_value_can_be_printed(open_session: Open) -> None:
    async with open_session(echo) as control:
        for settings_ in (BadObject(), [BadObject()], BadDict(a=1)):
            with pytest.raises(NotJson) as refused:
                await control.spawn("/root", "a", "x", settings_)
            assert "is not a JSON value" in str(refused.value)
        targets: list[Any] = [BadObject(), LiesOfClass(), [BadObject()]]
        for target in targets:
            with pytest.raises(TypeError, match="a target is a path, an id or a reference"):
                await control.status(target)
        with pytest.raises(UnknownAgent):
            await control.status(AgentRef(BadWhole(9), "x", 0))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Plain, "a class derived from Thread"),
        (lambda: {"default": echo, "other": Plain}, "a class derived from Thread"),
        (lambda: {"default": "echo"}, "a class derived from Thread"),
        (lambda: {1: echo}, "1 for a role, which is not a text"),
        (BadObject, "a class derived from Thread"),
    ],
)
def test_work_that_cannot_work_is_refused_when_the_session_is_made(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        AgentControl.open(MemoryStore(), make())
