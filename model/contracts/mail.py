"""Contracts on mail: S5, S12, L3 and what a mailbox, a name and a message may be (section 4, D6, D7, D16)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from statemachine.core import operations, rules
from statemachine.core.agents import Agent
from statemachine.core.events import HOST
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Identity, MailState
from statemachine.core.records import MailAccepted, MailKind
from statemachine.core.refusals import MailboxFull

from .contract import contract
from .turns import letter

TRIGGER, QUEUE = MailKind.TRIGGER, MailKind.QUEUE
Kinds = tuple[MailKind, MailKind, MailKind]


def full_ledger(kinds: Kinds, sender: int = HOST, promises: bool = True) -> tuple[Ledger, Agent]:
    """A ledger with the agents 1 and 2, and three mails for agent 1."""
    ledger = Ledger(promises)
    agents = [Agent(number, 0, f"/root/{number}", 1, None, Identity.OPEN) for number in (1, 2)]
    ledger.agents += agents
    ledger.by_path |= {agent.path: agent.id for agent in agents}
    ledger.open_agents = 2
    for number, kind in enumerate(kinds):
        ledger.accept(letter(number, kind, sender))
    return ledger, agents[0]


def is_sound(ledger: Ledger, agent: Agent, unread: int, read: int, dead: int) -> bool:
    """Is each mail in one state, and counted there, and each trigger and open request known? Is what is unread found by
    its number, and nothing else, and is it a letter if it is not a request?
    """
    triggers = [mail.mail for mail in agent.mailbox if mail.kind == TRIGGER]
    letters = {mail.mail: agent.id for mail in agent.mailbox if mail.kind != TRIGGER}
    found = [mail for mail in map(ledger.find_unread, range(ledger.next_mail)) if mail is not None]
    states = ledger.mail_states == [unread, read, dead] and sum(ledger.mail_states) == ledger.next_mail
    known = found == [*agent.mailbox] and ledger.letters == letters and agent.triggers == len(triggers)
    return states and known and len(found) == unread


# The mailbox


def room_for_all(unread: int, promised: int, most: int, _: MailKind) -> bool:
    return unread + promised < most


@contract("S5", rules, "mailbox_has_room", room_for_all, "the last place is for all")
def last_place_of_a_mailbox_is_for_trigger_mail(unread: int, promised: int, most: int, kind: MailKind) -> bool:
    left = most - unread - promised
    return rules.mailbox_has_room(unread, promised, most, kind) == (left >= (1 if kind == TRIGGER else 2))


@contract(
    "L3",
    rules,
    "mailbox_has_room",
    lambda unread, promised, most, kind: unread < most,
    "promised notices have no place",
    lambda unread, promised, **_: unread >= 0 and promised >= 0,
)
def accepted_mail_leaves_room_for_every_promised_notice(unread: int, promised: int, most: int, kind: MailKind) -> bool:
    return not rules.mailbox_has_room(unread, promised, most, kind) or unread + 1 + promised <= most


def refuse_wrongly(s: Any, agent: Agent, kind: MailKind) -> MailboxFull | None:
    refused = MailboxFull(agent.id, len(agent.mailbox), 0, s.config.max_unread, agent.path)
    return None if rules.mailbox_has_room(len(agent.mailbox), agent.promised, s.config.max_unread, kind) else refused


@contract("S12", operations, "mailbox_open", refuse_wrongly, "promised notices are not named")
def full_mailbox_is_refused_with_its_counts(promised: int, most: int, kind: MailKind) -> bool:
    agent = Agent(1, 0, "/root/a", 1, None, mailbox=(letter(0, QUEUE),), promised=promised)
    s: Any = SimpleNamespace(config=SimpleNamespace(max_unread=most))
    refusal = operations.mailbox_open(s, agent, kind)
    if rules.mailbox_has_room(1, promised, most, kind):
        return refusal is None
    return isinstance(refusal, MailboxFull) and refusal.facts == ("MailboxFull", 1, 1, promised, most)


@contract("L3", operations, "notice_has_room", lambda s, sender, target: None, "it needs none")
def request_needs_room_for_its_notice_unless_none_is_promised(
    by_host: bool, to_self: bool, promises: bool, promised: int, most: int
) -> bool:
    agents = [Agent(n, 0, "/root/a", 1, None, promised=promised) for n in (0, 1)]
    ledger = SimpleNamespace(promises=promises)
    s: Any = SimpleNamespace(config=SimpleNamespace(max_unread=most), ledger=ledger, agents=agents)
    refusal = operations.notice_has_room(s, HOST if by_host else 1, 1 if to_self else 2)
    is_promised = promises and not by_host and not to_self
    return (refusal is not None) == (is_promised and promised + 2 > most)


@contract("L3", rules, "is_request", lambda kind, is_notice: kind is TRIGGER, "a notice too")
def notice_is_not_a_request(kind: MailKind, is_notice: bool) -> bool:
    return rules.is_request(kind, is_notice) == (kind == TRIGGER and not is_notice)


# The ledger


def accept_unpromised(self: Ledger, mail: MailAccepted) -> Agent:
    target = self.agents[mail.target]
    target.mailbox += (mail,)
    target.triggers += mail.kind is TRIGGER
    self.mail_states[MailState.ACCEPTED] += 1
    self.next_mail += 1
    index = self.requests if mail.kind is TRIGGER else self.letters
    index[mail.mail] = mail.target
    return target


@contract("S5", Ledger, "accept", accept_unpromised, "no notice is promised")
def accepted_request_of_an_agent_promises_it_a_notice(
    kind: MailKind, by_host: bool, to_self: bool, promises: bool, promised: int
) -> bool:
    ledger, agent = full_ledger((QUEUE, QUEUE, QUEUE), promises=promises)
    sender = 1 if to_self else 2
    for known in ledger.agents:
        known.promised = promised
    ledger.accept(letter(3, kind, HOST if by_host else sender))
    is_request = kind == TRIGGER
    owed = promised + (is_request and promises and not by_host and not to_self)
    asked = {3: 1} if is_request else {}
    return is_sound(ledger, agent, 4, 0, 0) and ledger.agents[2].promised == owed and ledger.requests == asked


def read_uncounted(self: Ledger, agent: Agent) -> tuple[MailAccepted, ...]:
    mails, agent.mailbox = agent.mailbox, ()
    return mails


@contract("S5", Ledger, "read_mail", read_uncounted, "it counts as unread still")
def turn_reads_all_unread_mail_in_order(kinds: Kinds) -> bool:
    ledger, agent = full_ledger(kinds)
    read = ledger.read_mail(agent)
    requests = tuple([number for number, kind in enumerate(kinds) if kind == TRIGGER])
    taken = tuple([mail.mail for mail in agent.taken])
    return tuple([mail.mail for mail in read]) == (0, 1, 2) and taken == requests and is_sound(ledger, agent, 0, 3, 0)


@contract("S5", Ledger, "read_some", lambda self, agent, numbers: self.read_mail(agent), "it reads all")
def turn_reads_the_notices_that_it_awaits_and_no_other_mail(kinds: Kinds, second: bool) -> bool:
    ledger, agent = full_ledger(kinds)
    chosen = 1 if second else 2
    ledger.read_some(agent, (chosen,))
    left = tuple([mail.mail for mail in agent.mailbox])
    return left == ((0, 2) if second else (0, 1)) and is_sound(ledger, agent, 2, 1, 0)


def withdraw_quietly(self: Ledger, mail: MailAccepted) -> None:
    agent = self.agents[mail.target]
    agent.mailbox = tuple([other for other in agent.mailbox if other is not mail])
    self.letters.pop(mail.mail, None)


@contract("S5", Ledger, "withdraw", withdraw_quietly, "nothing is counted")
def withdrawn_mail_is_a_dead_letter_and_answers_its_request(kinds: Kinds, second: bool) -> bool:
    ledger, agent = full_ledger(kinds)
    number = 1 if second else 2
    mail = agent.mailbox[number]
    ledger.withdraw(mail)
    open_requests = [n for n, kind in enumerate(kinds) if kind == TRIGGER and n != number]
    is_gone = mail not in agent.mailbox and list(ledger.requests) == open_requests
    return is_gone and is_sound(ledger, agent, 2, 0, 1)


@contract("S10", Ledger, "demote", lambda self, agent, numbers: (), "it asks for a turn still")
def demoted_mail_stays_unread_and_asks_for_no_turn(kinds: Kinds) -> bool:
    ledger, agent = full_ledger(kinds)
    answered = tuple([mail.mail for mail in ledger.demote(agent, (0, 2))])
    left = [1] if kinds[1] == TRIGGER else []
    expected = tuple([number for number in (0, 2) if kinds[number] == TRIGGER])
    return answered == expected and list(ledger.requests) == left and is_sound(ledger, agent, 3, 0, 0)


def close_with_mail(self: Ledger, agent: Agent, target: int) -> tuple[MailAccepted, ...]:
    agent.identity = Identity.CLOSED
    return agent.mailbox


@contract("S10", Ledger, "close", close_with_mail, "its mail is unread still")
def closed_agent_has_dead_letters_alone_and_its_path_is_free(kinds: Kinds) -> bool:
    ledger, agent = full_ledger(kinds)
    buried = ledger.close(agent, 1)
    is_free = agent.path not in ledger.by_path and ledger.open_agents == 1 and agent.identity == Identity.CLOSED
    return is_free and len(buried) == 3 and not ledger.requests and is_sound(ledger, agent, 0, 0, 3)


# What a caller may write


def is_lower(code: int) -> bool:
    return ord("a") <= code <= ord("z") or ord("0") <= code <= ord("9") or code == ord("_")


@contract("S7", rules, "name_is_valid", str.isalnum, "any letter or digit", lambda name: len(name) == 1)
def name_may_be_one_lower_case_letter_digit_or_underscore(name: str) -> bool:
    return rules.name_is_valid(name) == is_lower(ord(name))


@contract(
    "S7",
    rules,
    "name_is_valid",
    lambda name: name[0] != "_",
    "what follows is not looked at",
    lambda name: len(name) == 2,
)
def name_has_valid_characters_alone(name: str) -> bool:
    return rules.name_is_valid(name) == (is_lower(ord(name[0])) and is_lower(ord(name[1])))


@contract(
    "S12",
    rules,
    "message_size",
    lambda text, most: None if text else 0,
    "however large",
    lambda text, most: len(text) <= 1,
)
def message_has_one_byte_at_least_and_no_more_than_allowed(text: str, most: int) -> bool:
    code = ord(text) if text else -1
    size = 0 if code < 0 else 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4
    return rules.message_size(text, most) == (None if 1 <= size <= most else size)
