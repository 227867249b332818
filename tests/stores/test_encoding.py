"""Records, entries and facts are read as they were written, and nothing else is read."""

from __future__ import annotations

import json
from collections import OrderedDict
from enum import IntEnum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine.core.events import HOST, ROOT
from statemachine.core.facts import NESTING_MAX, Json, Result
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import (
    RECORDS,
    AgentResumed,
    AgentsClosed,
    AgentsForgotten,
    AgentSpawned,
    Cause,
    LoadBegun,
    LoadEnded,
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailKind,
    MailRead,
    MailWithdrawn,
    NoticeBuried,
    Outcome,
    TurnEnded,
    TurnReturned,
    TurnStarted,
    TurnStopped,
)
from statemachine.log.snapshot import AgentFacts, AgentTimes
from statemachine.stores import Entry
from statemachine.stores.encoding import EncodingError, decode, decode_facts, encode, encode_facts, parse
from statemachine.stores.protocol import LogRecord

ENUMS: tuple[type[IntEnum], ...] = (MailKind, Identity, TurnState, Cause)
SPAWNED = AgentSpawned(1, ROOT, "a", "settings of a")
MAIL = MailAccepted(0, ROOT, 1, MailKind.TRIGGER, "work")
STARTED = TurnStarted(1, 1)
ENTRY = Entry(1, 1, {"said": ["hello", 1, 2.5, None, True]})
ENDED = TurnEnded(Outcome(1, 1, TurnState.COMPLETED, "done", Cause.FINISHED))


whole_numbers = st.integers(-1, 2**70)
texts = st.text(st.characters(exclude_categories=()))
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=8,
)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    Any: json_values,
    int: whole_numbers,
    str: texts,
    float: st.floats(0, 1e11),
    Result: json_values.map(lambda value: value if isinstance(value, str) else Json(value)),
    AgentTimes: st.tuples(*[st.none() | st.floats(0, 1e11)] * 3),
}
"""Type of a field -> any value of it."""


def any_of(of: Any) -> st.SearchStrategy[Any]:
    """Any value of this type: of a class, every field is given."""
    if of in VALUES:
        return VALUES[of]
    if get_origin(of) in (UnionType, Union):
        return st.one_of([st.none() if part is type(None) else any_of(part) for part in get_args(of)])
    if get_origin(of) is tuple:
        return st.lists(any_of(get_args(of)[0]), max_size=3).map(tuple)
    if issubclass(of, IntEnum):
        return st.sampled_from(of)
    hints = get_type_hints(of)
    return st.builds(of, **{field.alias: any_of(hints[field.name]) for field in attrs.fields(of)})


QUIET = settings(max_examples=100, deadline=None, database=None, derandomize=True)


@pytest.mark.parametrize("kind", [*RECORDS, Entry])
@QUIET
@given(data=st.data())
def test_any_record_is_read_as_it_was_written(kind: type, data: st.DataObject) -> None:
    record = data.draw(any_of(kind))
    name, _, text = encode(record)
    assert decode(name, text) == record
    assert repr(decode(name, text)) == repr(record)
    assert decode(name, text).at == record.at


@QUIET
@given(any_of(AgentFacts))
def test_any_facts_are_read_as_they_were_written(found: AgentFacts) -> None:
    assert decode_facts(encode_facts(found)) == found
    assert repr(decode_facts(encode_facts(found))) == repr(found)
    assert decode_facts(encode_facts(found)).times == found.times
    assert [mail.at for mail in decode_facts(encode_facts(found)).mailbox] == [mail.at for mail in found.mailbox]


OUTCOME = ENDED.outcome
OF_THE_AGENT: tuple[LogRecord, ...] = (
    *(MAIL, MailWithdrawn(1, 0, OUTCOME), MailDemoted(1, (0,), OUTCOME), MailRead(1, 1, (0,)), MailDrained(1, 1)),
    *(STARTED, TurnStopped(1, 1, Cause.INTERRUPTED), TurnReturned(1, 1), ENDED, ENTRY),
)
OF_NO_AGENT: tuple[LogRecord, ...] = (
    *(SPAWNED, NoticeBuried(1, 2, OUTCOME), LoadBegun(1), LoadEnded(1)),
    *(AgentsClosed(1, (1, 2)), AgentResumed(1), AgentsForgotten(1, (1, 2))),
)


def test_every_record_class_can_be_written_and_belongs_to_the_rollout_it_is_about() -> None:
    assert {example.__class__ for example in (*OF_THE_AGENT, *OF_NO_AGENT)} == {*RECORDS, Entry}
    assert {encode(example)[1] for example in OF_THE_AGENT} == {1}
    assert {encode(example)[1] for example in OF_NO_AGENT} == {None}


WRONG = (
    b"bytes",
    "text",
    1,
    1.5,
    True,
    None,
    (),
    (1,),
    ("1",),
    Json(1),
    Cause.FAILED,
    TurnState.NEW,
    OUTCOME,
    {1},
    object(),
)


@pytest.mark.parametrize("record", [*OF_THE_AGENT, *OF_NO_AGENT], ids=lambda record: type(record).__name__)
def test_value_of_another_class_in_any_field_is_refused_or_read_as_an_equal_one(record: Any) -> None:
    refused = 0
    good: Any = OUTCOME
    outcomes = [evolve(good, **{field.alias: wrong}) for field in attrs.fields(type(good)) for wrong in WRONG]
    for field in attrs.fields(type(record)):
        for wrong in (*WRONG, *outcomes):
            found = evolve(record, **{field.alias: wrong})
            try:
                name, _, text = encode(found)
            except EncodingError:
                refused += 1
                continue
            back = decode(name, text)
            expected = evolve(record, data=json.loads(json.dumps(wrong))) if field.name == "data" else found
            assert (back, back.at) == (expected, expected.at), field.name
    assert refused > 10


def test_written_records_look_like_this() -> None:
    failed, closed = (
        Outcome(2, 1, TurnState.ERRORED, "why", Cause.FAILED),
        Outcome(3, 2, TurnState.INTERRUPTED, "closed", Cause.CLOSED, HOST),
    )
    found = Outcome(4, 1, TurnState.COMPLETED, Json({"depth": [2, 2.5, None]}), Cause.FINISHED)
    nothing = Outcome(4, 2, TurnState.COMPLETED, Json(None), Cause.FINISHED)
    notice = MailAccepted(3, 2, 1, MailKind.QUEUE, "", failed, '{"tenant":7}', (4, 5), at=1_800_000_000.25)
    ends = (TurnEnded(closed, traceback="line 1\nline 2"), TurnEnded(found), TurnEnded(nothing))
    stopped = TurnStopped(3, 2, Cause.INTERRUPTED, HOST, below=1, at=2.5)
    written = (MAIL, notice, *ends, ENTRY, AgentsClosed(1, (1, 2)), stopped, MailDemoted(3, (7, 8), closed))
    assert [encode(record)[2] for record in written] == [
        '{"answers":[],"at":null,"headers":null,"kind":1,"mail":0,"message":"work","notice":null,"sender":0,"target":1}',
        '{"answers":[4,5],"at":1800000000.25,"headers":"{\\"tenant\\":7}","kind":0,"mail":3,"message":"",'
        '"notice":{"agent":2,"by":null,"cause":1,"raw":"why","status":2,"turn":1},"sender":2,"target":1}',
        '{"at":null,"outcome":{"agent":3,"by":-1,"cause":10,"raw":"closed","status":3,"turn":2},'
        '"traceback":"line 1\\nline 2"}',
        '{"at":null,"outcome":{"agent":4,"by":null,"cause":0,"raw":{"text":"{\\"depth\\":[2,2.5,null]}"},"status":1,"turn":1},'
        '"traceback":null}',
        '{"at":null,"outcome":{"agent":4,"by":null,"cause":0,"raw":{"text":"null"},"status":1,"turn":2},"traceback":null}',
        '{"agent":1,"at":null,"data":{"said":["hello",1,2.5,null,true]},"turn":1}',
        '{"agents":[1,2],"at":null,"target":1}',
        '{"agent":3,"at":2.5,"below":1,"by":-1,"cause":7,"turn":2}',
        '{"agent":3,"at":null,"mails":[7,8],"outcome":{"agent":3,"by":-1,"cause":10,"raw":"closed","status":3,"turn":2}}',
    ]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("Nothing", '{"agent":1}'),
        ("AgentResumed", ""),
        ("AgentResumed", '{"at":null,"agent":1'),
        ("AgentResumed", '{"at":null,"agent":1}}'),
        ("AgentResumed", b'{"agent":\xff}'),
        ("AgentResumed", 7),
        ("AgentResumed", None),
        ("AgentResumed", "[1]"),
        ("AgentResumed", "{}"),
        ("AgentResumed", '{"agent":1}'),
        ("AgentResumed", '{"at":"1","agent":1}'),
        ("AgentResumed", '{"at":null,"agent":true}'),
        ("AgentResumed", '{"at":null,"agent":1.0}'),
        ("AgentResumed", '{"at":null,"agent":"1"}'),
        ("AgentResumed", '{"at":null,"agent":1,"turn":2}'),
        ("AgentResumed", '{"at":null,"target":1}'),
        ("TurnEnded", '{"at":null,"outcome":null,"traceback":null}'),
        (
            "TurnEnded",
            '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":"done","raw":""},"traceback":null}',
        ),
        (
            "TurnEnded",
            '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":99,"raw":""},"traceback":null}',
        ),
        (
            "TurnEnded",
            '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":[0],"raw":""},"traceback":null}',
        ),
        (
            "TurnEnded",
            '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":1.0,"raw":""},"traceback":null}',
        ),
        (
            "TurnEnded",
            '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":0,"raw":null},"traceback":null}',
        ),
        ("TurnEnded", '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"status":0,"raw":""},"traceback":null}'),
        (
            "TurnEnded",
            '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":0,"raw":"","result":""},"traceback":null}',
        ),
        (
            "TurnEnded",
            '{"at":null,"outcome":{"agent":1,"turn":1,"cause":99,"by":null,"status":0,"raw":""},"traceback":null}',
        ),
        (
            "TurnEnded",
            '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":"host","status":0,"raw":""},"traceback":null}',
        ),
        (
            "TurnEnded",
            '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":0,"raw":{}},"traceback":null}',
        ),
        (
            "TurnEnded",
            '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":0,"raw":{"text":"1 "}},'
            '"traceback":null}',
        ),
        (
            "TurnEnded",
            '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":0,"raw":{"text":"NaN"}},"traceback":null}',
        ),
        (
            "TurnEnded",
            '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":0,"raw":{"text":"1","more":1}}}',
        ),
        ("AgentsClosed", '{"at":null,"target":1,"agents":{}}'),
        ("AgentsClosed", '{"at":null,"target":1,"agents":["1"]}'),
        ("Entry", '{"at":null,"agent":1,"turn":1,"data":NaN}'),
        ("Entry", f'{{"at":null,"agent":1,"turn":1,"data":{"[" * 10**5}'),
    ],
)
def test_what_encode_would_not_write_is_not_read(kind: str, data: Any) -> None:
    with pytest.raises(EncodingError):
        decode(kind, data)


FACTS = '[1,0,"a",null,1,-1,0,0,null,[],[],null,0,0,null]'


def test_facts_look_like_this() -> None:
    facts: Any = AgentFacts(1, 0, "a", None, Identity.OPEN, -1, TurnState.NEW, 0, None, (), ())
    assert encode_facts(facts) == FACTS
    assert decode_facts(FACTS) == facts
    known = evolve(facts, stopped=TurnStopped(1, 1, Cause.TIMED_OUT), attempts=2, loads=3, times=(1.5, None, 2.0))
    stopped = '{"agent":1,"at":null,"below":null,"by":null,"cause":13,"turn":1}'
    text = FACTS.replace("null,0,0,null]", f"{stopped},2,3,[1.5,null,2.0]]")
    assert encode_facts(known) == text
    assert decode_facts(text) == known
    assert decode_facts(text).times == known.times


def test_numbers_of_the_enums_that_files_have_never_change() -> None:
    """A new member gets a new number; no other has to be read in a file of today."""
    assert {kind.__name__: " ".join(f"{member.value}={member.name}" for member in kind) for kind in ENUMS} == {
        "MailKind": "0=QUEUE 1=TRIGGER",
        "Identity": "0=UNKNOWN 1=OPEN 2=CLOSED 3=FORGOTTEN",
        "TurnState": "0=NEW 1=COMPLETED 2=ERRORED 3=INTERRUPTED 4=QUEUED 5=STARTING 6=RUNNING 7=STOPPING 8=WAITING "
        "9=RETURNING",
        "Cause": "0=FINISHED 1=FAILED 2=THREAD_DIED 3=LOAD_FAILED 4=LOAD_DIED 5=LOAD_TIMED_OUT 6=NO_ROOM 7=INTERRUPTED "
        "8=NOT_STARTED 9=NOT_STOPPED 10=CLOSED 11=SHUT_DOWN 12=CRASHED 13=TIMED_OUT 14=WITHDRAWN 15=LOADS_LOST",
    }


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "[1,0]",
        "null",
        FACTS.replace("null", "[1,1]", 1),
        FACTS.replace("null", "1"),
        FACTS[:-1] + ",1]",
        FACTS.replace("-1", "true"),
    ],
)
def test_what_are_no_facts_is_not_read(text: str) -> None:
    with pytest.raises(EncodingError):
        decode_facts(text)


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_result_that_no_turn_can_have_returned_is_not_read(number: str) -> None:
    outcome = f'{{"agent":1,"turn":1,"status":1,"raw":{{"text":"[{number}]"}},"cause":0,"by":null}}'
    with pytest.raises(EncodingError, match="Out of range"):
        decode("TurnEnded", f'{{"at":null,"outcome":{outcome},"traceback":null}}')


def nested(depth: int) -> Any:
    value: Any = 1
    for number in range(depth):
        value = [value] if number % 2 else {"in": value}
    return value


def test_entry_is_written_up_to_the_depth_that_can_be_read_everywhere() -> None:
    record = Entry(1, 1, nested(NESTING_MAX))
    assert decode(*[encode(record)[at] for at in (0, 2)]) == record  # type: ignore[arg-type]
    wide = Entry(1, 1, [[{}]] * NESTING_MAX)
    assert parse(encode(wide)[2])["data"] == wide.data
    circle: list[Any] = []
    circle.append(circle)
    ordered = OrderedDict({"in": nested(NESTING_MAX)})
    for data in (nested(NESTING_MAX + 1), nested(5000), circle, ordered):
        with pytest.raises(EncodingError):
            encode(Entry(1, 1, data))


def test_result_is_written_up_to_the_depth_that_can_be_read_everywhere() -> None:
    def ended(result: Any) -> TurnEnded:
        return TurnEnded(Outcome(1, 1, TurnState.COMPLETED, Json(result), Cause.FINISHED))

    deepest = ended(nested(NESTING_MAX))
    assert decode(*[encode(deepest)[at] for at in (0, 2)]) == deepest  # type: ignore[arg-type]
    wide = ended([[{}]] * NESTING_MAX)
    assert decode(*[encode(wide)[at] for at in (0, 2)]) == wide  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        ended(nested(NESTING_MAX + 1))
