"""Records, entries and facts are read as they were written, and nothing else is read."""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine.core.events import HOST, ROOT
from statemachine.core.facts import NESTING_MAX, Json
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import (
    RECORDS,
    AgentResumed,
    AgentsClosed,
    AgentSpawned,
    Cause,
    MailAccepted,
    MailDrained,
    MailKind,
    NoticeBuried,
    Outcome,
    Record,
    TurnEnded,
    TurnStarted,
)
from statemachine.log.snapshot import AgentFacts
from statemachine.stores import Entry
from statemachine.stores.encoding import EncodingError, decode, decode_facts, encode, encode_facts, parse

ENUMS: tuple[type[IntEnum], ...] = (MailKind, Identity, TurnState, Cause)
SPAWNED = AgentSpawned(1, ROOT, "a", "settings of a")
MAIL = MailAccepted(0, ROOT, 1, MailKind.TRIGGER, "work")
STARTED = TurnStarted(1, 1)
ENTRY = Entry(1, 1, {"said": ["hello", 1, 2.5, None, True]})
ENDED = TurnEnded(Outcome(1, 1, TurnState.COMPLETED, "done", Cause.FINISHED))


times = st.none() | st.floats(0, 1e11)
whole_numbers = st.integers(-1, 2**70)
texts = st.text(st.characters(exclude_categories=()))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=8,
)
results = json_values.map(lambda value: value if isinstance(value, str) else Json(value))
outcomes = st.builds(
    Outcome,
    *[whole_numbers] * 2,
    st.sampled_from(TurnState),
    results,
    st.sampled_from(Cause),
    st.none() | whole_numbers,
)
mails = st.builds(
    MailAccepted,
    *[whole_numbers] * 3,
    st.sampled_from(MailKind),
    texts,
    st.none() | outcomes,
    st.none() | texts,
    at=times,
)
records = st.one_of(
    st.builds(AgentSpawned, whole_numbers, whole_numbers, texts, st.none() | texts, at=times),
    mails,
    st.builds(NoticeBuried, whole_numbers, whole_numbers, outcomes, at=times),
    st.builds(TurnStarted, whole_numbers, whole_numbers, at=times),
    st.builds(MailDrained, whole_numbers, whole_numbers, at=times),
    st.builds(TurnEnded, outcomes, at=times),
    st.builds(AgentsClosed, whole_numbers, st.lists(whole_numbers).map(tuple), at=times),
    st.builds(AgentResumed, whole_numbers, at=times),
    st.builds(Entry, whole_numbers, whole_numbers, json_values, at=times),
)
facts = st.builds(
    AgentFacts,
    *[whole_numbers] * 2,
    texts,
    st.none() | texts,
    st.sampled_from(Identity),
    whole_numbers,
    st.sampled_from(TurnState),
    whole_numbers,
    st.none() | outcomes,
    *[st.lists(mails, max_size=3).map(tuple)] * 2,
    st.none() | st.tuples(times, times, times),
)
QUIET = settings(max_examples=300, deadline=None, database=None, derandomize=True)


@QUIET
@given(records)
def test_any_record_is_read_as_it_was_written(record: Any) -> None:
    kind, _, data = encode(record)
    assert decode(kind, data) == record
    assert repr(decode(kind, data)) == repr(record)
    assert decode(kind, data).at == record.at


@QUIET
@given(facts)
def test_any_facts_are_read_as_they_were_written(found: AgentFacts) -> None:
    assert decode_facts(encode_facts(found)) == found
    assert repr(decode_facts(encode_facts(found))) == repr(found)
    assert [mail.at for mail in decode_facts(encode_facts(found)).mailbox] == [mail.at for mail in found.mailbox]


def test_every_record_class_can_be_written_and_belongs_to_the_rollout_it_is_about() -> None:
    examples: set[Record] = {
        *(SPAWNED, MAIL, STARTED, ENDED, MailDrained(1, 1), NoticeBuried(1, 2, ENDED.outcome)),
        *(AgentsClosed(1, (1, 2)), AgentResumed(1)),
    }
    assert {example.__class__ for example in examples} == set(RECORDS)
    owners = {example.__class__.__name__: encode(example)[1] for example in [*examples, ENTRY]}
    nobody = dict.fromkeys(("AgentSpawned", "NoticeBuried", "AgentsClosed", "AgentResumed"))
    assert owners == nobody | dict.fromkeys(("MailAccepted", "TurnStarted", "MailDrained", "TurnEnded", "Entry"), 1)


def test_written_records_look_like_this() -> None:
    failed, closed = (
        Outcome(2, 1, TurnState.ERRORED, "why", Cause.FAILED),
        Outcome(3, 2, TurnState.INTERRUPTED, "closed", Cause.CLOSED, HOST),
    )
    found = Outcome(4, 1, TurnState.COMPLETED, Json({"depth": [2, 2.5, None]}), Cause.FINISHED)
    nothing = Outcome(4, 2, TurnState.COMPLETED, Json(None), Cause.FINISHED)
    notice = MailAccepted(3, 2, 1, MailKind.QUEUE, "", failed, '{"tenant":7}', at=1_800_000_000.25)
    ends = (TurnEnded(closed), TurnEnded(found), TurnEnded(nothing))
    written = (MAIL, notice, *ends, ENTRY, AgentsClosed(1, (1, 2)))
    assert [encode(record)[2] for record in written] == [
        '{"at":null,"headers":null,"kind":1,"mail":0,"message":"work","notice":null,"sender":0,"target":1}',
        '{"at":1800000000.25,"headers":"{\\"tenant\\":7}","kind":0,"mail":3,"message":"",'
        '"notice":{"agent":2,"by":null,"cause":1,"raw":"why","status":2,"turn":1},"sender":2,"target":1}',
        '{"at":null,"outcome":{"agent":3,"by":-1,"cause":10,"raw":"closed","status":3,"turn":2}}',
        '{"at":null,"outcome":{"agent":4,"by":null,"cause":0,"raw":{"text":"{\\"depth\\":[2,2.5,null]}"},"status":1,"turn":1}}',
        '{"at":null,"outcome":{"agent":4,"by":null,"cause":0,"raw":{"text":"null"},"status":1,"turn":2}}',
        '{"agent":1,"at":null,"data":{"said":["hello",1,2.5,null,true]},"turn":1}',
        '{"agents":[1,2],"at":null,"target":1}',
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
        ("TurnEnded", '{"at":null,"outcome":null}'),
        ("TurnEnded", '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":"done","raw":""}}'),
        ("TurnEnded", '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":99,"raw":""}}'),
        ("TurnEnded", '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":[0],"raw":""}}'),
        ("TurnEnded", '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":1.0,"raw":""}}'),
        ("TurnEnded", '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":0,"raw":null}}'),
        ("TurnEnded", '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"status":0,"raw":""}}'),
        ("TurnEnded", '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":0,"raw":"","result":""}}'),
        ("TurnEnded", '{"at":null,"outcome":{"agent":1,"turn":1,"cause":99,"by":null,"status":0,"raw":""}}'),
        ("TurnEnded", '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":"host","status":0,"raw":""}}'),
        ("TurnEnded", '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":0,"raw":{}}}'),
        ("TurnEnded", '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":0,"raw":{"text":"1 "}}}'),
        ("TurnEnded", '{"at":null,"outcome":{"agent":1,"turn":1,"cause":1,"by":null,"status":0,"raw":{"text":"NaN"}}}'),
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


FACTS = '[1,0,"a",null,1,-1,0,0,null,[],[],null]'


def test_facts_look_like_this() -> None:
    facts = AgentFacts(1, 0, "a", None, Identity.OPEN, -1, TurnState.NEW, 0, None, (), ())
    assert encode_facts(facts) == FACTS
    assert decode_facts(FACTS) == facts
    timed = AgentFacts(1, 0, "a", None, Identity.OPEN, -1, TurnState.NEW, 0, None, (), (), (1.5, None, 2.0))
    assert encode_facts(timed) == FACTS.replace("],null]", "],[1.5,null,2.0]]")
    assert decode_facts(FACTS.replace("],null]", "],[1.5,null,2.0]]")).times == (1.5, None, 2.0)


def test_numbers_of_the_enums_that_files_have_never_change() -> None:
    """A new member gets a new number; no other has to be read in a file of today."""
    assert {kind.__name__: " ".join(f"{member.value}={member.name}" for member in kind) for kind in ENUMS} == {
        "MailKind": "0=QUEUE 1=TRIGGER",
        "Identity": "0=UNKNOWN 1=OPEN 2=CLOSED",
        "TurnState": "0=NEW 1=COMPLETED 2=ERRORED 3=INTERRUPTED 4=QUEUED 5=STARTING 6=RUNNING 7=STOPPING",
        "Cause": "0=FINISHED 1=FAILED 2=THREAD_DIED 3=LOAD_FAILED 4=LOAD_DIED 5=LOAD_TIMED_OUT 6=NO_ROOM 7=INTERRUPTED "
        "8=NOT_STARTED 9=NOT_STOPPED 10=CLOSED 11=SHUT_DOWN 12=CRASHED",
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
        decode("TurnEnded", f'{{"at":null,"outcome":{outcome}}}')


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
