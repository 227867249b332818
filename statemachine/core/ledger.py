"""The durable half of a session: agents, mail and outcomes, which is all that the log says (section 5, N5, S5, S7).

The session changes these facts only through the methods here, each with its record; recovery folds the records
through the same methods (`recovery.py`). So both arrive at the same facts.
"""

from __future__ import annotations

from statemachine.core import rules
from statemachine.core.agents import Agent
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import IDENTITY, MAIL, Identity, MailState, Residency
from statemachine.core.records import AgentSpawned, MailAccepted, MailKind, Outcome

SPAWN, CLOSE, RESUME = (IDENTITY.moves(trigger) for trigger in ("spawn", "close", "resume"))
READ, BURY, DEMOTE = (MAIL.moves(trigger) for trigger in ("read", "bury", "demote"))

TRIGGER, QUEUE, ACCEPTED = MailKind.TRIGGER, MailKind.QUEUE, MailState.ACCEPTED


class Ledger:
    """The facts. `promises` says whether requesters get notices, and so need room for them (decision D7)."""

    __slots__ = ("agents", "by_path", "mail_states", "next_mail", "open_agents", "promises")

    def __init__(self, promises: bool) -> None:
        root = Agent(ROOT, -1, "/root", None, residency=Residency.RESIDENT)
        self.agents: list[Agent] = [root]
        self.by_path: dict[str, int] = {root.path: ROOT}
        self.open_agents = 0
        self.mail_states = [0] * len(MailState)
        self.next_mail = 0
        """The number of the next mail: how many were accepted so far, which is the sum of `mail_states`."""
        self.promises = promises

    def copy(self) -> Ledger:
        """An independent copy."""
        other = Ledger.__new__(Ledger)
        other.agents = [agent.copy() for agent in self.agents]
        other.by_path = self.by_path.copy()
        other.open_agents = self.open_agents
        other.mail_states = self.mail_states[:]
        other.next_mail = self.next_mail
        other.promises = self.promises
        return other

    # Identity

    def spawn(self, record: AgentSpawned) -> Agent:
        """A new open agent."""
        parent = self.agents[record.parent]
        assert record.agent == len(self.agents), "ids are given in order"
        identity = SPAWN[Identity.UNKNOWN]
        agent = Agent(record.agent, record.parent, f"{parent.path}/{record.name}", record.settings, identity)
        self.agents.append(agent)
        if parent.children is None:
            parent.children = []
        parent.children.append(agent.id)
        self._open_path(agent)
        return agent

    def close(self, agent: Agent, target: int) -> tuple[MailAccepted, ...]:
        """The agent is closed, as part of closing `target`; its unread mail are dead letters, and are returned."""
        agent.identity = CLOSE[agent.identity]
        agent.closed_by = target
        del self.by_path[agent.path]
        self.open_agents -= 1
        unread = agent.mailbox
        self._move_mail(BURY[ACCEPTED], len(unread))
        agent.mailbox, agent.triggers = (), 0
        self.settle_promises(requests(unread))
        return unread

    def forget_earlier_close(self, target: int) -> None:
        """The target is closed again: what stayed closed when it was resumed was not open now, and stays closed when
        it is resumed once more.
        """
        line = [target]
        for member in line:
            agent = self.agents[member]
            line.extend(agent.children or ())
            if agent.closed_by == target:
                agent.closed_by = member

    def resume(self, agent: Agent) -> None:
        """The agent is open again."""
        agent.identity = RESUME[agent.identity]
        agent.closed_by = -1
        self._open_path(agent)

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
            if mail.sender != HOST:
                self._promise(mail, 1)
        return target

    def bury_notice(self) -> None:
        """A notice found its requester closed."""
        self.mail_states[BURY[ACCEPTED]] += 1
        self.next_mail += 1

    def read_mail(self, agent: Agent) -> tuple[MailAccepted, ...]:
        """The running turn reads all unread mail, which is returned; the requests among it are now its own."""
        unread = agent.mailbox
        if unread:
            self._move_mail(READ[ACCEPTED], len(unread))
            if agent.triggers:
                agent.asked += requests(unread)
                agent.triggers = 0
            agent.mailbox = ()
        return unread

    # Turns

    def end_turn(self, agent: Agent, outcome: Outcome, started: bool) -> tuple[MailAccepted, ...]:
        """The turn is over. Returns the requests that its outcome answers.

        A turn that had started answers those it took. One that had not has taken none: its unread trigger mail is
        demoted to queue-only, and those who sent it are told (decision D5).
        """
        agent.turn = outcome.turn
        agent.status = outcome.status
        agent.outcome = outcome
        if started:
            answered, agent.asked = agent.asked, ()
        else:
            answered = requests(agent.mailbox)
            assert DEMOTE[ACCEPTED] is ACCEPTED
            agent.mailbox = tuple(demoted(mail) for mail in agent.mailbox)
            agent.triggers = 0
        self.settle_promises(answered)
        return answered

    def settle_promises(self, answered: tuple[MailAccepted, ...]) -> None:
        """Whoever sent these requests is owed no notice any more: it comes now, or never."""
        for mail in answered:
            if mail.sender != HOST:
                self._promise(mail, -1)

    def _promise(self, mail: MailAccepted, count: int) -> None:
        if self.promises and mail.sender != mail.target and mail.notice is None:
            self.agents[mail.sender].promised += count

    def _move_mail(self, to: MailState, count: int) -> None:
        self.mail_states[ACCEPTED] -= count
        self.mail_states[to] += count


def requests(mails: tuple[MailAccepted, ...]) -> tuple[MailAccepted, ...]:
    """Those mails whose sender is told when the turn that takes them ends."""
    return tuple([m for m in mails if rules.is_request(m.kind, m.notice is not None)])


def demoted(mail: MailAccepted) -> MailAccepted:
    """The same mail as queue-only mail."""
    return MailAccepted(mail.mail, mail.sender, mail.target, QUEUE, mail.message, mail.notice, mail.headers, at=mail.at)
