"""Looks at what a store has of a session, as of one moment, whatever database has it: to recover it, to check it, to
show it and to copy it.

A `Contents` is what one transaction sees. `check` names all that no session can have written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from attrs import frozen

from statemachine.core.agents import Agent
from statemachine.core.config import SessionConfig
from statemachine.core.machines import Identity
from statemachine.core.records import MailAccepted, Outcome, TurnEnded
from statemachine.log import judging, receipts, texts
from statemachine.stores.encoding import EncodingError, Stored, encode, parse, text_of
from statemachine.stores.folding import Folded
from statemachine.stores.protocol import Entry, LogRecord, Recovered
from statemachine.stores.rows import Meta, decode_at


@frozen
class Sizes:
    """What a session takes, and in which version of its tables."""

    schema: int
    records: int
    receipts: int
    file_bytes: int
    """Bytes of its tables, or of the file; what other sessions have in the same tables counts too."""
    wal_bytes: int
    """Bytes of the log that SQLite has beside the file; 0 if there is none."""


class Contents(Protocol):
    """What a store has of a session, as one transaction sees it."""

    unreadable: tuple[type[Exception], ...]
    """What its database raises for damage."""

    def damage(self) -> Iterator[str]:
        """Yields what its database itself finds damaged, each as a sentence."""
        ...

    def quick_check(self) -> None:
        """Raises `StoreCorrupt` if what opening reads as a whole is damaged."""
        ...

    def meta(self) -> Meta:
        """Reads the facts of the session as a whole. Raises `EncodingError` for a wrong value."""
        ...

    def folded(self, meta: Meta, config: SessionConfig) -> Folded:
        """Returns the facts with the log after them folded in. Raises `EncodingError` if no session can have them."""
        ...

    def facts(self) -> Iterator[tuple[int, Stored]]:
        """Yields the facts of every agent, as of the snapshot, by id."""
        ...

    def log(self) -> Iterator[tuple[int, int | None, str, Stored]]:
        """Yields position, agent, kind and fields of every record, oldest first."""
        ...

    def receipts(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yields key, request and answer of every receipt, by key."""
        ...

    def rollout(self, agent: int) -> tuple[LogRecord, ...]:
        """Returns the rollout of an agent, oldest first."""
        ...

    def misplaced(self, covered: int) -> Iterator[str]:
        """Yields the differences between the rollouts and the log."""
        ...

    def last_position(self, covered: int) -> int:
        """Returns the last position ever used."""
        ...

    def sizes(self) -> Sizes:
        """Returns what the session takes."""
        ...


def recovered_of(contents: Contents) -> Recovered:
    """Returns what opening the session would find. Raises `StoreCorrupt` and `EncodingError`."""
    contents.quick_check()
    meta = contents.meta()
    folded = contents.folded(meta, meta.config or SessionConfig())
    return Recovered(meta.epoch, meta.config, folded.ledger, folded.tail, folded.times)


def unwatched() -> None:
    """Looks at nothing: what goes on is to come to its end."""


def problems_of(contents: Contents, look: Callable[[], object] = unwatched) -> Iterator[str]:
    """Yields all that is wrong, each as a sentence: reads every record, folds snapshot and tail, and compares the last
    turns in the rollouts with the facts. `look` is called for every record; what it raises ends the check.
    """
    try:
        damaged = list(contents.damage())
        yield from damaged
        if damaged:
            return  # what is damaged makes further checks meaningless
        meta = contents.meta()
        folded = contents.folded(meta, meta.config or SessionConfig())
    except EncodingError as error:
        yield str(error) if error.agent is None else f"agent {error.agent}: {error}"
        return
    except contents.unreadable as error:
        yield str(error)
        return
    yield from contents.misplaced(meta.covered)
    given = Given(contents, folded.ledger.agents)
    yield from given.read(look)
    last: dict[int, Outcome] = {}
    agents, last_mail = folded.ledger.agents, -1
    for position, agent, kind, data in contents.log():
        look()
        try:
            record = decode_at(position, kind, data)
        except EncodingError as error:
            yield str(error)
            continue
        if encode(record)[1] != agent:
            yield f"log position {position}: {record!r:.200} is in the rollout of agent {agent}"
        if isinstance(record, Entry):
            continue  # any text is an entry, and nothing follows from it
        problem = judging.record_problem(record, len(agents)) or texts.texts_problem(record)
        if problem is None and isinstance(record, MailAccepted):
            if not last_mail < record.mail < folded.ledger.next_mail:
                problem = f"its number has to be above {last_mail} and below {folded.ledger.next_mail}"
            last_mail = max(last_mail, record.mail)
        if problem is not None:
            yield f"log position {position}: {record!r:.200} cannot be: {problem}"
        if isinstance(record, TurnEnded):
            last[record.outcome.agent] = record.outcome
        elif isinstance(record, MailAccepted):
            given.see(record)
    for found in agents:
        if found.outcome != last.get(found.id) and found.identity is not Identity.FORGOTTEN:  # whose rollout may wait
            told = last.get(found.id)
            yield f"agent {found.id}: its last turn ended with {found.outcome!r:.200}, its rollout says {told!r:.200}"
    yield from given.lacking()
    if given.count != meta.keys:
        yield f"there are {given.count:,} receipts, and {meta.keys:,} were given"


class Given:
    """The receipts of a session with these agents. What its store was given by other than the runtime may have any
    texts: only those are judged whose request is the line of one.
    """

    def __init__(self, contents: Contents, agents: Sequence[Agent]) -> None:
        self.contents = contents
        self.agents = agents
        self.count = 0
        self.wanted: dict[int, tuple[str, int, int]] = {}
        """Mail -> key, agent and mark of the receipt that names it."""

    def read(self, look: Callable[[], object]) -> Iterator[str]:
        """Reads all receipts. Yields what is wrong with each by itself. `look` is called for each."""
        for stored_key, stored_request, stored_answer in self.contents.receipts():
            self.count += 1
            look()
            try:
                key, request, answer = text_of(stored_key), text_of(stored_request), text_of(stored_answer)
                parse(answer)
            except EncodingError as error:
                yield f"receipt {stored_key!r:.100}: {error}"
                continue
            asked = receipts.request_in(request)
            if asked is not None:
                problem = self._judge(key, request, answer, asked)
                if problem is not None:
                    yield f"receipt {key!r:.100}: {problem}"

    def _judge(self, key: str, request: str, text: str, asked: receipts.Request) -> str | None:
        try:
            answer = receipts.answer_in(text)
        except ValueError as error:
            return str(error)
        problem = receipts.problem_of(request, answer, self.agents)
        if problem is None and self.agents[answer.agent].identity is not Identity.FORGOTTEN:
            first = self.wanted.setdefault(answer.mail, (key, answer.agent, receipts.mark_wanted(asked, answer.agent)))
            if first[0] != key:
                problem = f"it names mail {answer.mail}, and so does the receipt for key {first[0]!r:.100}"
        return problem

    def see(self, mail: MailAccepted) -> None:
        """Takes a mail of the log."""
        wanted = self.wanted.get(mail.mail)
        if wanted is not None and wanted[2] == receipts.mark_of(mail):
            del self.wanted[mail.mail]

    def lacking(self) -> Iterator[str]:
        """Yields the receipts whose mail is not in the log, or is another one there."""
        for mail, (key, agent, _) in self.wanted.items():
            yield f"receipt {key!r:.100}: agent {agent} never got its mail {mail}"
