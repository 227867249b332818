"""The durable half of a session: agents, mail and outcomes, which is all that the log says (section 5, N5, S5, S7).

The session changes these facts only through the methods here, each with its record; recovery folds the records
through the same methods (`recovery.py`). So both arrive at the same facts.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection
from operator import attrgetter

from statemachine.core import rules
from statemachine.core.agents import Agent
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import IDENTITY, MAIL, TURN, Identity, MailState, Residency
from statemachine.core.records import AgentSpawned, MailAccepted, MailKind, Outcome, TurnStopped

SPAWN, CLOSE, RESUME = (IDENTITY.moves(trigger) for trigger in ("spawn", "close", "resume"))
FORGET = IDENTITY.moves("forget")
READ, BURY, DEMOTE, RETURN = (MAIL.moves(trigger) for trigger in ("read", "bury", "demote", "return"))

RETURN_TURN = TURN.moves("return")

TRIGGER, QUEUE, ACCEPTED = MailKind.TRIGGER, MailKind.QUEUE, MailState.ACCEPTED


class Ledger:
    """The facts. `promises` says whether requesters get notices, and so need room for them (decision D7); `returns`
    whether a turn may be returned, so that all mail that it has read is kept until it ends, and not its requests alone
    (S17).
    """

    __slots__ = (
        "agents",
        "attempts",
        "by_path",
        "closed_at",
        "letters",
        "loads",
        "mail_states",
        "next_mail",
        "open_agents",
        "promises",
        "requests",
        "returns",
        "stops",
    )

    def __init__(self, promises: bool, returns: bool = False) -> None:
        root = Agent(ROOT, -1, "/root", 0, None, residency=Residency.RESIDENT)
        self.agents: list[Agent] = [root]
        self.by_path: dict[str, int] = {root.path: ROOT}
        """Path -> the open agent there."""
        self.closed_at: dict[str, list[int]] = {}
        """Path -> the closed agents that were there, and are not forgotten, in the order of their ids."""
        self.open_agents = 0
        self.mail_states = [0] * len(MailState)
        self.next_mail = 0
        """The number of the next mail: how many were accepted so far, which is the sum of `mail_states`."""
        self.promises = promises
        self.returns = returns
        self.requests: dict[int, int] = {}
        """Every request that is not answered -> the agent that is asked."""
        self.letters: dict[int, int] = {}
        """Every unread mail that is not such a request -> whose it is."""
        self.stops: dict[int, TurnStopped] = {}
        """Agent whose turn was asked to stop -> why."""
        self.attempts: dict[int, int] = {}
        """Agent -> how many of its turns in a row were returned (S17), if any."""
        self.loads: dict[int, int] = {}
        """Agent -> how many loads began since a turn of it started or ended, if any."""

    def copy(self) -> Ledger:
        """An independent copy."""
        other = Ledger.__new__(Ledger)
        other.agents = [agent.copy() for agent in self.agents]
        other.by_path = self.by_path.copy()
        other.closed_at = {path: agents[:] for path, agents in self.closed_at.items()} if self.closed_at else {}
        other.open_agents = self.open_agents
        other.mail_states = self.mail_states[:]
        other.next_mail = self.next_mail
        other.promises = self.promises
        other.returns = self.returns
        other.requests = self.requests.copy()
        other.letters = self.letters.copy()
        other.stops = self.stops.copy()
        other.attempts = self.attempts.copy()
        other.loads = self.loads.copy()
        return other

    # Identity

    def spawn(self, record: AgentSpawned) -> Agent:
        """A new open agent."""
        parent = self.agents[record.parent]
        assert record.agent == len(self.agents), "ids are given in order"
        identity = SPAWN[Identity.UNKNOWN]
        path = f"{parent.path}/{record.name}"
        agent = Agent(record.agent, record.parent, path, parent.depth + 1, record.settings, identity)
        self.agents.append(agent)
        if parent.children is None:
            parent.children = []
        parent.children.append(agent.id)
        self._open_path(agent)
        return agent

    def close(self, agent: Agent, target: int) -> tuple[MailAccepted, ...]:
        """The agent is closed, as part of closing `target` and after its parent, if that is a part too; its unread mail
        are dead letters, and are returned.
        """
        agent.identity = CLOSE[agent.identity]
        agent.closed_by = target if agent.id == target else agent.parent
        for child in agent.children or ():
            if self.agents[child].closed_by == agent.id:  # it stayed closed when its parent was resumed
                self.agents[child].closed_by = child
        del self.by_path[agent.path]
        self.keep_closed(agent)
        self.open_agents -= 1
        unread = agent.mailbox
        self._move_mail(BURY[ACCEPTED], unread)
        agent.mailbox, agent.triggers = (), 0
        self.attempts.pop(agent.id, None)
        self.answer(requests(unread))
        return unread

    def resume(self, agent: Agent) -> None:
        """The agent is open again."""
        agent.identity = RESUME[agent.identity]
        agent.closed_by = -1
        self._drop_closed(agent)
        self._open_path(agent)

    def forget(self, agent: Agent) -> None:
        """Drops all that is known of the agent. Its id is not given again."""
        agent.identity = FORGET[agent.identity]
        self._drop_closed(agent)
        parent = self.agents[agent.parent]
        if parent.children is not None:
            parent.children.remove(agent.id)
            parent.children = parent.children or None
        agent.parent, agent.path, agent.settings, agent.outcome, agent.children = -1, "", None, None, None
        agent.depth, agent.closed_by = 0, -1

    def keep_closed(self, agent: Agent) -> None:
        """The agent is found at its path among the closed ones."""
        insort(self.closed_at.setdefault(agent.path, []), agent.id)

    def _drop_closed(self, agent: Agent) -> None:
        closed = self.closed_at.get(agent.path, [])
        at = bisect_left(closed, agent.id)
        if closed[at : at + 1] == [agent.id]:
            del closed[at]
            if not closed:
                del self.closed_at[agent.path]

    def at(self, path: str) -> list[int]:
        """The agents that are or were at the path, the open one last, without those forgotten."""
        found = self.closed_at.get(path, [])[:]
        holder = self.by_path.get(path)
        return found if holder is None else [*found, holder]

    def _open_path(self, agent: Agent) -> None:
        assert agent.path not in self.by_path, "open paths are unique"
        self.by_path[agent.path] = agent.id
        self.open_agents += 1

    # Mail

    def accept(self, mail: MailAccepted) -> Agent:
        """The mail is unread. Returns whose it is."""
        target = self.agents[mail.target]
        target.mailbox += (mail,)
        self.mail_states[ACCEPTED] += 1
        self.next_mail += 1
        if mail.kind is TRIGGER:
            target.triggers += 1
        if rules.is_request(mail.kind, mail.notice is not None):
            self.requests[mail.mail] = target.id
            if mail.sender != HOST:
                self._promise(mail, 1)
        else:
            self.letters[mail.mail] = target.id
        return target

    def find_unread(self, number: int) -> MailAccepted | None:
        """Returns the mail with this number, if it is unread."""
        whose = self.requests.get(number, self.letters.get(number))
        mailbox = () if whose is None else self.agents[whose].mailbox
        return next((mail for mail in mailbox if mail.mail == number), None)

    def bury_notice(self) -> None:
        """A notice found its requester closed."""
        self.mail_states[BURY[ACCEPTED]] += 1
        self.next_mail += 1

    def read_mail(self, agent: Agent) -> tuple[MailAccepted, ...]:
        """The turn reads all unread mail, which is returned; the requests among it are now its own."""
        mails = agent.mailbox
        if mails:
            self._move_mail(READ[ACCEPTED], mails)
            agent.taken += mails if self.returns else requests(mails)
            agent.mailbox, agent.triggers = (), 0
        return mails

    def read_some(self, agent: Agent, numbers: Collection[int]) -> None:
        """Lets the turn read these unread mails alone."""
        mails = tuple([mail for mail in agent.mailbox if mail.mail in numbers])
        self._move_mail(READ[ACCEPTED], mails)
        agent.taken += self.kept(mails)
        agent.mailbox = tuple([mail for mail in agent.mailbox if mail.mail not in numbers])
        agent.triggers -= len([mail for mail in mails if mail.kind is TRIGGER])

    def kept(self, mails: tuple[MailAccepted, ...]) -> tuple[MailAccepted, ...]:
        """Returns those of the mails that a turn reads which must be known until it ends."""
        return mails if self.returns else requests(mails)

    def withdraw(self, mail: MailAccepted) -> None:
        """Makes the unread mail a dead letter."""
        agent = self.agents[mail.target]
        agent.mailbox = tuple([other for other in agent.mailbox if other is not mail])
        agent.triggers -= mail.kind is TRIGGER
        self._move_mail(BURY[ACCEPTED], (mail,))
        self.answer(requests((mail,)))

    def demote(self, agent: Agent, numbers: Collection[int]) -> tuple[MailAccepted, ...]:
        """Makes these unread mails queue-only. Returns the requests among them, which are answered by that."""
        assert DEMOTE[ACCEPTED] is ACCEPTED
        mails = tuple([mail for mail in agent.mailbox if mail.mail in numbers and mail.kind is TRIGGER])
        agent.mailbox = tuple([demoted(mail) if mail in mails else mail for mail in agent.mailbox])
        agent.triggers -= len(mails)
        answered = requests(mails)
        self.answer(answered)
        self.letters.update([(mail.mail, agent.id) for mail in answered])
        return answered

    # Turns

    def start_turn(self, agent: Agent, turn: int) -> tuple[MailAccepted, ...]:
        """The turn runs, and reads all unread mail, which is returned."""
        agent.turn = turn
        if self.loads:
            self.loads.pop(agent.id, None)
        return self.read_mail(agent)

    def end_turn(self, agent: Agent, outcome: Outcome, started: bool) -> tuple[MailAccepted, ...]:
        """The turn is over. Returns the requests that its outcome answers.

        A turn that had started answers those it took. One that had not has taken none: its unread trigger mail is
        demoted to queue-only, and those who sent it are told (decision D5).
        """
        agent.turn = outcome.turn
        agent.status = outcome.status
        agent.outcome = outcome
        if self.attempts or self.stops or self.loads:
            for known in (self.attempts, self.stops, self.loads):
                known.pop(agent.id, None)
        if started:
            answered, agent.taken = requests(agent.taken) if self.returns else agent.taken, ()
            self.answer(answered)
            return answered
        return self.demote(agent, [mail.mail for mail in agent.mailbox])

    def return_turn(self, agent: Agent, turn: int) -> None:
        """Ends the turn without an outcome: all mail that it had read is unread again, in its old order."""
        agent.turn = turn
        agent.status = RETURN_TURN[agent.status]
        self.attempts[agent.id] = self.attempts.get(agent.id, 0) + 1
        mails, agent.taken = agent.taken, ()
        self.mail_states[RETURN[MailState.READ]] += len(mails)
        self.mail_states[MailState.READ] -= len(mails)
        self.letters.update([(mail.mail, agent.id) for mail in mails if mail.mail not in self.requests])
        agent.mailbox = tuple(sorted([*mails, *agent.mailbox], key=attrgetter("mail")))
        agent.triggers = len([mail for mail in agent.mailbox if mail.kind is TRIGGER])

    def answer(self, answered: tuple[MailAccepted, ...]) -> None:
        """These requests are answered: their senders are owed no notice any more, which comes now or never."""
        for mail in answered:
            del self.requests[mail.mail]
            if mail.sender != HOST:
                self._promise(mail, -1)

    def _promise(self, mail: MailAccepted, count: int) -> None:
        if self.promises and mail.sender != mail.target and mail.notice is None:
            self.agents[mail.sender].promised += count

    def _move_mail(self, to: MailState, mails: tuple[MailAccepted, ...]) -> None:
        count = len(mails)
        self.mail_states[ACCEPTED] -= count
        self.mail_states[to] += count
        if self.letters:
            for mail in mails:
                self.letters.pop(mail.mail, None)


def requests(mails: tuple[MailAccepted, ...]) -> tuple[MailAccepted, ...]:
    """Those mails whose sender is told when the turn that takes them ends."""
    return tuple([m for m in mails if rules.is_request(m.kind, m.notice is not None)])


def demoted(mail: MailAccepted) -> MailAccepted:
    """The same mail as queue-only mail."""
    return MailAccepted(
        mail.mail, mail.sender, mail.target, QUEUE, mail.message, mail.notice, mail.headers, mail.answers, at=mail.at
    )
