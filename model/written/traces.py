"""Judges traces: what is written is read back, and nothing else is read at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, get_type_hints

import attrs
import msgspec

from statemachine.core.config import Notice, SessionConfig
from statemachine.core.events import EVENTS, Finished, Restart, Send, Tick, Wait, WaitMode
from statemachine.core.facts import Json, Result
from statemachine.core.records import Cause
from statemachine.log import trace
from statemachine.log.snapshot import facts_of
from statemachine.log.strict import Reader
from statemachine.log.trace import Trace, TraceError

from .lives import life

TEXTS = ("", "a", "/root/a", "é\u2028\n\"'\\", "\ud83d", "x" * 2_000)
NUMBERS = (0, 1, -1, 7, 1 << 53, -(1 << 60))
FLOATS = (0, 1, -2, 0.5, 1e300, math.inf, -math.inf)
JSONS = (None, True, 1.5, [1, {"a": []}], {"é": "\ud83d"})
VALUES: dict[Any, tuple[Any, ...]] = {
    int: NUMBERS,
    bool: (False, True),
    str: TEXTS,
    float: FLOATS,
    str | None: (None, *TEXTS),
    int | None: (None, *NUMBERS),
    float | None: (None, *FLOATS),
    tuple[int, ...]: ((), (1,), NUMBERS),
    Cause: tuple(Cause),
    WaitMode: tuple(WaitMode),
    Result: (*TEXTS, *[Json(value) for value in JSONS]),
}
"""The type of a field -> some values that it may have."""
KINDS: tuple[type, ...] = (*EVENTS, Restart)
HEADER = trace.header_line(SessionConfig())


def events(rnd: Random) -> Iterator[Any]:
    """Yields events of every class, with every value of every field."""
    for kind in KINDS:
        hints = get_type_hints(kind)
        names = [field.name for field in attrs.fields(kind)]
        for name in names or [""]:
            for value in VALUES[hints[name]] if name else [None]:
                drawn = {other: rnd.choice(VALUES[hints[other]]) for other in names}
                yield kind(**(drawn | {name: value} if name else {}))


# What is written is read


def written_is_read(seed: int) -> Iterator[str]:
    """Yields which events, configurations and facts are not read as they were written."""
    for event in events(Random(seed)):
        line = trace.event_line(event)
        back = trace.event_of(line)
        if back.__class__ is not event.__class__ or back != event or line.count(b"\n") != 1 or line[-1:] != b"\n":
            yield f"{event!r} is read as {back!r}"
        if list(json.loads(line)) != ["event", *[field.name for field in attrs.fields(event.__class__)]]:
            yield f"{line!r} has its fields in another order"
    now = trace.event_of(trace.event_line(Tick(math.nan)))
    if not isinstance(now, Tick) or not math.isnan(now.now):
        yield f"what is not a number is read as {now!r}"
    if "é" not in trace.event_line(Send(1, 2, "é")).decode() or b": " in trace.event_line(Send(1, 2, "é")):
        yield "a line is longer than it has to be"
    for number in range(40):
        rnd = Random(seed + number)
        *_, (s, _, _) = life(rnd, 60)
        for ledger in (None, s.ledger):
            found = trace.header_of(trace.header_line(s.config, ledger))
            facts = None if ledger is None else tuple(facts_of(ledger, agent) for agent in ledger.agents)
            states = None if ledger is None else tuple(ledger.mail_states)
            if found.config != s.config or found.version != trace.VERSION:
                yield f"seed {seed + number}: the configuration is read as {found.config!r}"
            if (found.facts and found.facts.agents, found.facts and found.facts.mail_states) != (facts, states):
                yield f"seed {seed + number}: the facts are read as {found.facts!r}"
        if trace.config_of(trace.header_line(s.config)) != s.config:
            yield f"seed {seed + number}: the configuration alone is read as another"


def files_are_read(seed: int) -> Iterator[str]:
    """Yields which files are not read as they were written, or read though they should not be, or with another line."""
    told = tuple(events(Random(seed)))
    config = SessionConfig(max_concurrent=2, notice=Notice.NONE)
    with TemporaryDirectory() as folder:
        path = Path(folder, "trace")
        trace.write(path, config, told)
        if trace.read(path) != Trace(config, told):
            yield "a file is read as another"
        header, *lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(header + b"".join(lines[:3]).rstrip())
        if trace.read(path).events != told[:3]:
            yield "a last line without an end is read as another"
        for number in (2, 4):
            path.write_bytes(b"".join([header, *lines[: number - 2], b"{}\n", *lines[3:5]]))
            yield from refusal(path, number, f"line {number}")
        for text in (b"", b"\n", b" " * (1 << 17) + header, lines[0]):
            path.write_bytes(text)
            yield from refusal(path, 1, repr(text[:40]))
        long = trace.header_line(SessionConfig())[:-2] + b" " * (1 << 17) + b"}\n"
        path.write_bytes(long + lines[0])
        if trace.read(path).events != told[:1]:
            yield "a long header is not read whole"
        path.unlink()
        for missing in (path, Path(folder), Path(folder, "\0")):
            yield from refusal(missing, None, repr(missing.name))
        try:
            trace.write(path, config, [told[0], Tick(WRONG_NUMBERS[0])])
        except TraceError as error:
            if (error.line, error.path) != (None, None) or str(error) != error.problem or path.exists():
                yield f"an event that cannot be written is refused with {error}"
        else:
            yield "an event that cannot be written is written"


def refusal(path: Path, line: int | None, what: str) -> Iterator[str]:
    """Yields how the file is read, or refused with another line."""
    try:
        found = trace.read(path)
    except TraceError as error:
        named = repr(str(path)) if "\0" in str(path) else str(path)  # which no output takes as it is
        where = f"{named}: " if line is None else f"{named}, line {line}: "
        if (error.line, error.path) != (line, str(path)) or str(error) != where + error.problem or not error.problem:
            yield f"{what} is refused with {str(error)!r:.200}"
    else:
        yield f"{what} is read as {found!r:.100}"


def readers_are_strict(seed: int) -> Iterator[str]:
    """Yields which JSON texts a reader takes for something else than what they say, or takes though it should not."""
    for event in events(Random(seed)):
        kind = event.__class__
        reader, lenient = Reader(kind), Reader(kind, whole=False)
        text = json.dumps(msgspec.to_builtins(event))
        if "Infinity" in text or "\\ud83d" in text:
            continue  # which msgspec does not read
        for one in (reader, lenient):
            one.check(text)
            if one.decode(text) != event or one.convert(json.loads(text)) != event:
                yield f"{text:.200} is read as {one.decode(text)!r:.200}"
        given = json.loads(text)
        for name in given:
            without = {other: value for other, value in given.items() if other != name}
            default = {field.name: field.default for field in attrs.fields(kind)}[name]
            yield from taken(reader, without, False)
            yield from taken(lenient, without, default is not attrs.NOTHING)
            yield from taken(reader, given | {name: {"a": 1}}, given[name] == {"a": 1})
        yield from taken(reader, given | {"more": 1}, False)
        yield from taken(lenient, given | {"more": 1}, False)


def taken(reader: Reader, given: Any, meant: bool) -> Iterator[str]:
    """Yields how a reader takes a value, or does not, if it should not, or should."""
    text = json.dumps(given)
    for read in (reader.check, reader.decode, lambda text: reader.convert(json.loads(text))):
        try:
            read(text)
            is_taken = True
        except (ValueError, TypeError):
            is_taken = False
        if is_taken != meant:
            yield f"{text:.200} is {'taken' if is_taken else 'refused'} by {read}"


# What no version writes is refused


def foreign_is_refused(seed: int) -> Iterator[str]:
    """Yields which lines are read though no version would have written them."""
    for event in events(Random(seed)):
        for text in spoiled(trace.event_line(event)):
            yield from refused(trace.event_of, text)
    for text in (*spoiled(HEADER), *headers()):
        yield from refused(trace.header_of, text)
    for line in LINES:
        yield from refused(trace.event_of, line)
    for wrong in UNWRITABLE:
        yield from refused(trace.event_line, wrong)
    told, cut = str(TraceError("x" * trace.PROBLEM_MAX)), str(TraceError("x" * (trace.PROBLEM_MAX + 1)))
    if told != "x" * trace.PROBLEM_MAX or cut != f"{told}...":
        yield "the words of an error are cut elsewhere"


def spoiled(line: bytes) -> Iterator[bytes]:
    """Yields a line without one of its fields, with one more, with one twice, and with one of another type."""
    found = json.loads(line)
    for name in found:
        yield text_of({other: value for other, value in found.items() if other != name})
        yield text_of(found)[:-1] + f",{json.dumps(name)}:{json.dumps(found[name])}}}".encode()
        if found[name] != {"a": 1}:
            yield text_of(found | {name: {"a": 1}})
    yield text_of(found | {"more": 1})


def headers() -> Iterator[bytes]:
    """Yields headers with something wrong in them."""
    found = json.loads(HEADER)
    for name, value in (
        ("version", trace.VERSION + 1),
        ("version", 0),
        ("version", "3"),
        ("version", True),
        ("format", ""),
    ):
        yield text_of(found | {name: value})
    for name, value in found["config"].items():
        without = {other: known for other, known in found["config"].items() if other != name}
        yield text_of(found | {"config": without})
        wrong: tuple[Any, ...] = ("1", 1.5, True, [])
        for other in wrong if type(value) is not float and value is not None else ("1", True, []):
            if type(other) is not type(value):
                yield text_of(found | {"config": found["config"] | {name: other}})
    yield text_of(found | {"config": found["config"] | {"max_resident": 0}})
    yield text_of(found | {"facts": {"agents": [], "mail_states": [0]}})
    yield text_of(found | {"facts": {"agents": []}})
    yield text_of([found])


LINES = (
    b"\n",
    b"[" * 100_000,
    b'["Tick",1.0]',
    b'{"now":1.0}',
    b'{"event":"Tock","now":1.0}',
    b'{"event":["Tick"],"now":1.0}',
    b'{"event":"Tick","now":"\xe9"}',
    b'{"event":"Tick","now":null}',
    b'{"event":"Tick","now":true}',
    b'{"event":"Tick","now":"soon"}',
    b'{"event":"Tick","now":Infinity}',
    b'{"event":"Tick","now":NaN}',
    b'{"event":"Tick","now":1' + b"0" * 400 + b"}",
    b'{"event":"Tick","now":1' + b"0" * 5_000 + b"}",
    b'{"event":"Wait","agent":1,"turn":1,"timeout":1,"targets":[1.5],"requests":[],"mode":0,"mail":true}',
)


WRONG_NUMBERS: tuple[Any, ...] = ("1", 10**400)
UNWRITABLE: tuple[Any, ...] = (
    Trace(SessionConfig(), ()),
    Finished(1, True, "x"),
    *map(Tick, WRONG_NUMBERS),
    Wait(1, 1, 1.0, (True,)),
)


def text_of(value: Any) -> bytes:
    return json.dumps(value).encode()


def refused(read: Callable[[Any], Any], given: Any) -> Iterator[str]:
    """Yields what is read of something that should be refused."""
    try:
        found = read(given)
    except TraceError as error:
        if not error.problem or "\n" in str(error) or len(str(error)) > trace.PROBLEM_MAX + 3:
            yield f"{given!r:.100} is refused with {str(error)!r:.100}"
    else:
        yield f"{given!r:.200} is read as {found!r:.200}"
