"""Compares what was acknowledged with the log: each request is there once, and nothing that was not requested.

`Story` is all that the processes of one file wrote (`model/crashes/child.py`), in its order. `Log` is what the file
has. `judge` compares them and yields each fault, with the promise that it breaks: lost, twice, invented, or other than
it was told.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import pairwise
from random import Random
from typing import Any

from attrs import define, evolve, field, frozen

from statemachine.core.events import ROOT
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Identity
from statemachine.core.records import (
    Cause,
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailKind,
    MailRead,
    MailWithdrawn,
    Outcome,
    TurnEnded,
    TurnReturned,
    TurnStarted,
)
from statemachine.stores import Entry
from statemachine.stores.protocol import LogRecord, Receipt
from statemachine.stores.rows import decode_at
from statemachine.stores.sqlite import reading, tables
from statemachine.stores.sqlite.reading import read_session

from .child import OutcomeWords, Request, words_of

REQUESTS = ("spawn", "follow_up", "start")
"""The verbs whose requests have an outcome."""


@define(eq=False)
class Asked:
    """One request, and what was told of it."""

    number: str
    request: Request
    at: int
    """When it was made: a place in the story."""
    over: float = math.inf
    """When it was answered, or the process died."""
    reply: dict[str, Any] | None = None
    refused: str | None = None

    @property
    def do(self) -> str:
        return str(self.request["do"])


@define(eq=False)
class Story:
    """All that was written."""

    asked: dict[str, Asked] = field(factory=dict[str, Asked])
    took: list[tuple[int, int, list[int]]] = field(factory=list[tuple[int, int, list[int]]])
    """Agent, turn, and the mail that it has read."""
    attempts: dict[tuple[int, int], int] = field(factory=dict[tuple[int, int], int])
    """Turn -> which attempt it took itself for."""
    awaited: dict[tuple[int, int], tuple[int, int]] = field(factory=dict[tuple[int, int], tuple[int, int]])
    """Agent and request -> the turn of it that has awaited the request, and was told what came of it."""
    outcomes: dict[int, list[OutcomeWords]] = field(factory=lambda: defaultdict[int, list[OutcomeWords]](list))
    """Mail number -> its outcome, each time that it was told."""
    broken: list[str] = field(factory=list[str])
    """Faults that processes found themselves."""
    owners: dict[int, set[int]] = field(factory=lambda: defaultdict[int, set[int]](set))
    """Epoch -> processes."""
    spans: dict[int, tuple[int, int]] = field(factory=dict[int, tuple[int, int]])
    """Epoch -> the end of the log when it began, and the end of its last append."""
    lost: Counter[str] = field(factory=Counter[str])
    """Errors by which processes lost the session to others."""
    commits: int = 0
    keys: set[str] = field(factory=set[str])
    repeated: int = 0
    """Acknowledgements for a key that had one before."""
    position: int = 0
    """The end of the log at the last acknowledged commit."""
    length: int = 0
    """Number of lines so far."""

    def add(self, lines: Iterable[dict[str, Any]]) -> None:
        """Adds what a process wrote until it died."""
        mine: list[Asked] = []
        epoch = 0
        for line in lines:
            self.length += 1
            epoch = line.get("open", epoch)
            if "open" in line or "commit" in line:
                begin, end = self.spans.get(epoch, (line.get("position", 0), 0))
                self.spans[epoch] = (begin, max(end, line.get("commit", begin)))
            words = dict(line)
            if "ask" in words:
                number = words.pop("ask")
                mine.append(Asked(number, words, self.length))
                self.asked[number] = mine[-1]
            elif "ack" in words:
                self._acknowledge(words.pop("ack"), words)
            elif "no" in words:
                self._over(words["no"]).refused = words["why"]
            else:
                self._note(words)
        for asked in mine:
            asked.over = min(asked.over, self.length)

    def _over(self, number: str) -> Asked:
        self.asked[number].over = self.length
        return self.asked[number]

    def _acknowledge(self, number: str, reply: dict[str, Any]) -> None:
        asked = self._over(number)
        asked.reply = reply
        key = asked.request.get("key")
        if key:
            self.repeated += key in self.keys
            self.keys.add(key)

    def _note(self, words: dict[str, Any]) -> None:
        if "took" in words:
            agent, turn = words["took"]
            self.took.append((agent, turn, words["mail"]))
            if "attempt" in words:
                self.attempts[agent, turn] = words["attempt"]
        elif "outcome" in words:
            agent, turn, status, result, cause, by = words["is"]
            self.outcomes[words["outcome"]].append((agent, turn, status, result, cause, by))
            if "told" in words:
                who, number = words["told"]
                self.awaited[who, words["outcome"]] = (who, number)
        elif "broken" in words:
            self.broken.append(words["broken"])
        elif "open" in words:
            self.owners[words["open"]].add(words["process"])
            self.position = max(self.position, words["position"])
        elif "commit" in words:
            self.commits += 1
            self.position = max(self.position, words["commit"])
        elif "lost" in words:
            self.lost.update(words["lost"])

    # Questions

    def acknowledged(self) -> list[Asked]:
        return [asked for asked in self.asked.values() if asked.reply is not None]

    def with_keys(self) -> list[Asked]:
        """Returns requests with keys that may have been carried out: the first with each key."""
        return [a for a in self.asked.values() if a.request.get("key") and not a.refused]

    def requests(self, rng: Random, answered_max: int) -> list[tuple[int, str, int]]:
        """Returns acknowledged requests for a turn, as agent, path and mail: all whose outcome was not told, and some
        of the others.
        """
        found = {
            a.reply["mail"]: (a.reply["agent"], a.reply["path"], a.reply["mail"])
            for a in self.acknowledged()
            if a.do in REQUESTS and a.reply is not None
        }
        answered = [mail for mail in found if mail in self.outcomes]
        chosen = rng.sample(answered, min(len(answered), answered_max))
        return [found[mail] for mail in found if mail not in self.outcomes or mail in chosen]


# The log


@define(eq=False)
class Mailbox:
    """Of one agent, while the log is read."""

    unread: list[int] = field(factory=list[int])
    taken: list[int] = field(factory=list[int])
    """What the present turn has read."""
    returned: int = 0
    """How many turns were returned, one after the other."""


@define(eq=False)
class Log:
    """What the file has."""

    rows: list[tuple[int, int, str, Any]]
    """Rows of rollouts, oldest first: position, agent, kind, data."""
    end: int
    """The last position ever used."""
    receipts: dict[str, Receipt]
    ledger: Ledger
    mails: dict[int, MailAccepted] = field(factory=dict[int, MailAccepted])
    entries: Counter[tuple[int, int, str]] = field(factory=Counter[tuple[int, int, str]])
    read: dict[int, list[tuple[int, int]]] = field(factory=lambda: defaultdict[int, list[tuple[int, int]]](list))
    """Mail -> the turn that was the first to read after it came, and before it those that were returned. Dead letters
    seem to be read by the next turn, unless they were withdrawn.
    """
    returned: set[tuple[int, int]] = field(factory=set[tuple[int, int]])
    attempts: dict[tuple[int, int], int] = field(factory=dict[tuple[int, int], int])
    """Turn that has started -> one more than the turns that were returned before it, one after the other."""
    withdrawn: set[int] = field(factory=set[int])
    answered_apart: dict[int, OutcomeWords] = field(factory=dict[int, OutcomeWords])
    """Mail that was withdrawn or demoted -> what answers it, if it is a request."""
    started: set[tuple[int, int]] = field(factory=set[tuple[int, int]])
    ended: dict[tuple[int, int], OutcomeWords] = field(factory=dict[tuple[int, int], OutcomeWords])
    kept: Counter[int] = field(factory=Counter[int])
    """Agent -> entries of its threads that count them."""
    wrong: list[str] = field(factory=list[str])
    """Faults of the log in itself."""

    def begins_with(self, known: Iterable[tuple[int, int, str, Any]]) -> bool:
        """Are these rows, found before, the beginning of what is there but for the rollouts of forgotten agents?"""
        kept = [row for row in known if not self.forgets(row[1])]
        return self.rows[: len(kept)] == kept

    def forgets(self, agent: int | None) -> bool:
        """Is nothing known of the agent any more? Its rollout has been deleted then."""
        agents = self.ledger.agents
        return agent is not None and agent < len(agents) and agents[agent].identity is Identity.FORGOTTEN

    def fold(self) -> Log:
        """Reads the rows."""
        mailboxes: dict[int, Mailbox] = defaultdict(Mailbox)
        for position, agent, kind, data in self.rows:
            problem = self._take(decode_at(position, kind, data), mailboxes[agent])
            if problem is not None:
                self.wrong.append(f"log position {position}: {problem}")
        return self

    def _take(self, record: LogRecord, box: Mailbox) -> str | None:
        if isinstance(record, MailAccepted):
            if self.mails and record.mail <= next(reversed(self.mails)):
                return f"mail {record.mail} comes after mail {next(reversed(self.mails))}"
            self.mails[record.mail] = record
            box.unread.append(record.mail)
        elif isinstance(record, Entry):
            self.entries[record.agent, record.turn, json.dumps(record.data)] += 1
            self.kept[record.agent] += "kept" in record.data
            kept = self.kept[record.agent]
            if record.data.get("kept", record.data.get("flushed", kept)) != kept:
                return f"{record}, but {kept} entries of that thread are there"
        elif isinstance(record, TurnStarted | MailDrained | MailRead):
            return self._read(record, box)
        elif isinstance(record, MailWithdrawn):
            self.withdrawn.add(record.mail)
            return self._answer_apart((record.mail,), record.outcome, box, "withdrawn")
        elif isinstance(record, MailDemoted):
            return self._answer_apart(record.mails, record.outcome, box, "demoted")
        elif isinstance(record, TurnReturned):
            self.returned.add((record.agent, record.turn))
            box.returned += 1
            box.unread, box.taken = sorted(box.taken + box.unread), []
        elif isinstance(record, TurnEnded):
            turn = (record.outcome.agent, record.outcome.turn)
            if turn in self.ended:
                return f"{record}, which had ended"
            self.ended[turn] = words_of(record.outcome)
            box.taken, box.returned = [], 0
        return None

    def _read(self, record: TurnStarted | MailDrained | MailRead, box: Mailbox) -> str | None:
        turn = (record.agent, record.turn)
        if isinstance(record, TurnStarted) == (turn in self.started):
            return f"{record}, which was {'' if turn in self.started else 'not '}started"
        if isinstance(record, TurnStarted):
            self.started.add(turn)
            self.attempts[turn] = box.returned + 1
        mails = record.mails if isinstance(record, MailRead) else tuple(box.unread)
        if not set(mails) <= set(box.unread):
            return f"{record}, of which {box.unread} were unread"
        for mail in mails:
            self.read[mail].append(turn)
            box.unread.remove(mail)
        box.taken += mails
        return None

    def _answer_apart(self, mails: Iterable[int], outcome: Outcome, box: Mailbox, how: str) -> str | None:
        for mail in mails:
            if mail not in box.unread:
                return f"mail {mail} was {how}, and was not unread"
            self.answered_apart.setdefault(mail, words_of(outcome))  # what was demoted may be withdrawn, too
            if how == "withdrawn":
                box.unread.remove(mail)
        return None


def read_log(path: str | os.PathLike[str]) -> Log:
    """Returns what the file has, read without owning it. Raises `StoreError`."""

    def read(connection: sqlite3.Connection) -> Log:
        rows = connection.execute(
            "SELECT position, agent, kind, data FROM log WHERE agent IS NOT NULL ORDER BY position"
        ).fetchall()
        keys = connection.execute("SELECT key, request, answer FROM keys").fetchall()
        end = tables.last_position(connection, tables.read_meta(connection).covered)
        return Log(rows, end, {key: Receipt(key, request, answer) for key, request, answer in keys}, Ledger(True))

    log = reading.reading(path, read)
    log.ledger = read_session(path).ledger
    return log.fold()


# The verdict


class Fault(Enum):
    """The promise that a fault breaks."""

    LOST = "lost"
    """It was acknowledged, and is not there."""
    TWICE = "twice"
    """It is there more than once."""
    INVENTED = "invented"
    """It was refused, or never requested."""
    OTHER = "other than told"
    BROKEN = "broken"
    """A property does not hold, or the file is damaged."""


@frozen
class Blame:
    """One fault."""

    fault: Fault
    text: str

    def __str__(self) -> str:
        return f"{self.fault.value}: {self.text}"


def judge(story: Story, log: Log, in_turn: bool = True) -> Iterator[Blame]:
    """Yields all faults. `in_turn`: no two processes had the session at the same time."""
    for text in (*story.broken, *log.wrong):
        yield Blame(Fault.BROKEN, text)
    for epoch, processes in story.owners.items():
        if len(processes) > 1:
            yield Blame(Fault.BROKEN, f"epoch {epoch} was that of the processes {sorted(processes)}")
    for (_, (_, end)), (epoch, (begin, _)) in pairwise(sorted(story.spans.items())):
        if end > begin:
            yield Blame(Fault.BROKEN, f"an append ended at {end}, and epoch {epoch} had begun at {begin}")
    if log.end < story.position:
        yield Blame(Fault.LOST, f"the log ends at {log.end}, an append was acknowledged up to {story.position}")
    yield from judge_mail(story, log)
    yield from judge_entries(story, log)
    yield from judge_keys(story, log)
    yield from judge_agents(story, log)
    yield from judge_reading(story, log)
    yield from judge_outcomes(story, log)
    if in_turn:
        yield from judge_identity(story, log)


def expected(asked: Iterable[Asked]) -> tuple[int, int]:
    """Returns how often this may be in the log, at least and at most. With a key it may have been repeated."""
    replies = [a.reply for a in asked]
    if any(reply is not None for reply in replies):
        return 1, 1
    return 0, 0 if all(a.refused for a in asked) else 1


def count(what: str, asked: list[Asked], found: int) -> Iterator[Blame]:
    """Checks that it is in the log as often as it has to be."""
    least, most = expected(asked)
    if found < least:
        yield Blame(Fault.LOST, f"{what} ({asked[-1].request})")
    elif found > max(most, 1):
        yield Blame(Fault.TWICE, f"{what} is there {found} times ({asked[-1].request})")
    elif found > most:
        yield Blame(Fault.INVENTED, f"{what} was refused with {asked[-1].refused} ({asked[-1].request})")


def judge_mail(story: Story, log: Log) -> Iterator[Blame]:
    """Checks that each mail is there once, as it was acknowledged, and no other."""
    by_text: dict[str, list[Asked]] = defaultdict(list)
    for asked in story.asked.values():
        if "text" in asked.request:
            by_text[asked.request["text"]].append(asked)
    texts = Counter(mail.message for mail in log.mails.values() if mail.notice is None)
    for text, asks in by_text.items():
        if not any(log.forgets(target_of(asked)) for asked in asks):
            yield from count(f"mail {text!r}", asks, texts.pop(text, 0))
    for text in texts:
        yield Blame(Fault.INVENTED, f"mail {text!r}")
    for asked in story.acknowledged():
        if asked.reply is None or "mail" not in asked.reply or log.forgets(target_of(asked)):
            continue
        mail = log.mails.get(asked.reply["mail"])
        request = asked.request
        told = (
            request["by"],
            target_of(asked),
            MailKind.QUEUE if asked.do == "send" else MailKind.TRIGGER,
            request["text"],
        )
        if mail is None or (mail.sender, mail.target, mail.kind, mail.message) != told:
            yield Blame(Fault.OTHER, f"mail {asked.reply['mail']} is {mail}, told was {told}")


def target_of(asked: Asked) -> int | None:
    """Returns the agent that a mail is for. None: it was to be spawned for it, and it is not known that it was."""
    target: int | None = asked.request["to"] if "to" in asked.request else (asked.reply or {}).get("agent")
    return target


def judge_entries(story: Story, log: Log) -> Iterator[Blame]:
    """Checks that each entry is there once, and no other except those of flushes."""
    found = log.entries.copy()
    for asked in story.asked.values():
        if asked.do == "record" and not log.forgets(asked.request["by"]):
            entry = (asked.request["by"], asked.request["turn"], json.dumps(asked.request["data"]))
            yield from count(f"entry {entry}", [asked], found.pop(entry, 0))
    for entry in found:
        if "flushed" not in entry[2]:
            yield Blame(Fault.INVENTED, f"entry {entry}")


def judge_keys(story: Story, log: Log) -> Iterator[Blame]:
    """Checks that each key has its first receipt, however often it was repeated."""
    for asked in story.acknowledged():
        key = asked.request.get("key")
        if not key or asked.reply is None:
            continue
        receipt = log.receipts.get(key)
        if receipt is None:
            yield Blame(Fault.LOST, f"the receipt of {key!r}")
        elif json.loads(receipt.answer)[2] != asked.reply["mail"]:
            yield Blame(Fault.OTHER, f"{key!r} was answered by {asked.reply}, its receipt is {receipt.answer}")


def judge_agents(story: Story, log: Log) -> Iterator[Blame]:
    """Each agent is there once, where it was told to be, with its settings."""
    found = [agent for agent in log.ledger.agents[1:] if agent.identity is not Identity.FORGOTTEN]
    names = Counter(agent.path.rpartition("/")[2] for agent in found)
    forgets = [asked for asked in story.asked.values() if asked.do == "forget" and not asked.refused]
    forgotten = {agent for asked in forgets if asked.reply is not None for agent in asked.reply["agents"]}
    for agent_id in sorted(forgotten):
        if not log.forgets(agent_id):
            yield Blame(Fault.LOST, f"agent {agent_id} was forgotten")
    if all(asked.reply is not None for asked in forgets):  # what was not acknowledged may be done, or not
        for gone in log.ledger.agents:
            if log.forgets(gone.id) and gone.id not in forgotten:
                yield Blame(Fault.INVENTED, f"agent {gone.id} is forgotten, and that was not requested")
    by_name: dict[str, list[Asked]] = defaultdict(list)
    for asked in story.asked.values():
        if asked.do == "spawn":
            by_name[asked.request["name"]].append(asked)
    for name, asks in by_name.items():
        told = next((a.reply for a in asks if a.reply is not None), None)
        if told is not None and log.forgets(told["agent"]):
            continue
        yield from count(f"agent {name!r}", asks, names.pop(name, 0))
        if told is None or told["agent"] >= len(log.ledger.agents):
            continue
        agent = log.ledger.agents[told["agent"]]
        settings = json.loads(agent.settings or "null")
        if (agent.path, settings) != (told["path"], {key: asks[0].request[key] for key in ("role", "settings")}):
            yield Blame(Fault.OTHER, f"{agent.path} with {settings} was told as {told}, asked as {asks[0].request}")
    for name in names:
        yield Blame(Fault.INVENTED, f"agent {name!r}")


def judge_reading(story: Story, log: Log) -> Iterator[Blame]:
    """Every mail that a turn got was read by that turn, and by no other, but for turns before it that were returned."""
    readers: dict[int, set[tuple[int, int]]] = defaultdict(set)
    taken: dict[tuple[int, int], list[int]] = defaultdict(list)
    for agent, turn, mails in story.took:
        if log.forgets(agent):
            continue
        reader = (agent, turn)
        if reader not in log.started:
            yield Blame(Fault.LOST, f"turn {turn} of agent {agent} ran")
        taken[reader] += mails
        for mail in mails:
            if reader not in log.read.get(mail, ()):
                yield Blame(Fault.OTHER, f"mail {mail} was read by {reader}, not by {log.read.get(mail)}")
            if reader in readers[mail]:
                yield Blame(Fault.TWICE, f"mail {mail} was read, by {reader}")
            readers[mail].add(reader)
            yield from judge_notice(story, log, mail, reader)
    for mail, read_by in readers.items():
        twice = sorted(read_by - log.returned)
        if len(twice) > 1 or any(reader > twice[0] for reader in read_by if twice):
            yield Blame(Fault.TWICE, f"mail {mail} was read, by {sorted(read_by)}")
    for (agent, turn), attempt in story.attempts.items():
        if log.forgets(agent):
            continue
        if log.attempts.get((agent, turn)) != attempt:
            told = f"turn {turn} of agent {agent} is attempt {attempt}"
            yield Blame(Fault.OTHER, f"{told}, not {log.attempts.get((agent, turn))}")
        last = max([number for who, number in log.returned if who == agent and number < turn], default=0)
        missing = set(taken[agent, last]) - set(taken[agent, turn]) - log.withdrawn if attempt > 1 else None
        if missing:
            yield Blame(
                Fault.LOST, f"the mails {missing}, returned by turn {last} and not read by turn {turn} of {agent}"
            )


def judge_notice(story: Story, log: Log, mail: int, reader: tuple[int, int]) -> Iterator[Blame]:
    """What a turn has awaited is told to no later turn of its agent, unless that turn was returned."""
    notice = log.mails.get(mail)
    for request in () if notice is None else notice.answers:
        told = story.awaited.get((reader[0], request))
        asked = log.mails.get(request)  # None: for an agent that has been forgotten
        if told is None or told in log.returned or (asked is not None and asked.sender != reader[0]):
            continue
        if told < reader:
            yield Blame(Fault.TWICE, f"what came of request {request} was awaited by {told}, and read by {reader}")


def judge_outcomes(story: Story, log: Log) -> Iterator[Blame]:
    """Checks that every outcome that was told is that of the rollout."""
    for mail, told in story.outcomes.items():
        outcome = told[0]
        agent, turn, _, _, cause, _ = outcome
        if any(other != outcome for other in told):
            yield Blame(Fault.OTHER, f"request {mail} was answered by {told}")
        if log.answered_apart.get(mail) == outcome or log.forgets(agent):
            continue
        if log.ended.get((agent, turn)) != outcome:
            yield Blame(Fault.LOST, f"outcome {outcome}; the log has {log.ended.get((agent, turn))}")
        took = log.read.get(mail, [None])[-1]
        if took != (agent, turn) and (agent, turn) in log.started and cause != Cause.CLOSED.name:
            yield Blame(Fault.OTHER, f"request {mail} was answered by {outcome}, which {took} took")
    for asked in story.acknowledged():
        reply = asked.reply or {}
        if log.forgets(asked.request.get("to")):
            continue
        if asked.do in ("interrupt", "interrupt subtree") and reply.get("previous") in ("QUEUED", "STARTING"):
            stopped = (asked.request["to"], reply["turn"])
            end = log.ended.get(stopped)
            if stopped in log.started or end is None or end[4:] != (Cause.NOT_STARTED.name, asked.request["by"]):
                yield Blame(Fault.LOST, f"turn {stopped} was interrupted before it started, but ended with {end}")
    yield from judge_withdrawals(story, log)


def judge_withdrawals(story: Story, log: Log) -> Iterator[Blame]:
    """Checks that every mail whose withdrawal was acknowledged was withdrawn."""
    targets = {(asked.reply or {}).get("mail"): target_of(asked) for asked in story.acknowledged()}
    for asked in story.acknowledged():
        mail = asked.request["mail"] if asked.do == "withdraw" else None
        if mail is not None and mail not in log.withdrawn and not log.forgets(targets.get(mail)):
            yield Blame(Fault.LOST, f"the withdrawal of mail {mail}")


# Open and closed agents


def judge_identity(story: Story, log: Log) -> Iterator[Blame]:
    """Checks that an agent is closed or open as its last close, spawn or resume says, where it is known which came last
    because all others had ended before.
    """
    agents = log.ledger.agents
    moves: dict[int, list[Asked]] = defaultdict(list)
    for asked in moves_of(story):
        target = asked.request["to"] if asked.do != "spawn" else (asked.reply or {}).get("agent", len(agents))
        if target < len(agents):
            moves[target].append(asked)
    for agent in [agent for agent in agents[1:] if agent.identity is not Identity.FORGOTTEN]:
        of_agent: list[Asked] = []
        above = agent.id
        while above != ROOT:
            of_agent += moves[above]
            above = agents[above].parent
        last = max(of_agent, key=lambda asked: asked.at, default=None)
        if last is None or last.reply is None or any(a is not last and a.over >= last.at for a in of_agent):
            continue
        if agent.id not in last.reply.get("agents", (last.reply.get("agent"),)):
            continue
        if (agent.identity is Identity.OPEN) != (last.do != "close"):
            yield Blame(Fault.LOST, f"{agent.path} is {agent.identity.name} after {last.request}")


def moves_of(story: Story) -> Iterator[Asked]:
    """Yields spawns, closes and resumes that may have been carried out. A spawn repeated with its key is one."""
    spawned: dict[str, Asked] = {}
    for asked in story.asked.values():
        if asked.refused or asked.do not in ("spawn", "close", "resume"):
            continue
        if asked.do != "spawn":
            yield asked
            continue
        first = spawned.setdefault(asked.request["name"], asked)
        if first.reply is None:
            spawned[asked.request["name"]] = evolve(asked, at=first.at)
    yield from spawned.values()
