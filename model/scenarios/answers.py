"""What came of requests, derived from the log alone: what callers were told is compared with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from attrs import define, field

from statemachine.core.records import (
    AgentsClosed,
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailKind,
    MailWithdrawn,
    Outcome,
    TurnEnded,
    TurnReturned,
    TurnStarted,
)
from statemachine.stores.protocol import LogRecord


def answers_of(log: Iterable[LogRecord]) -> dict[int, Outcome]:
    """Mail -> what came of it, in a whole log or in the rollout of one agent."""
    answers: dict[int, Outcome] = {}
    mailboxes: dict[int, Mailbox] = defaultdict(Mailbox)
    for r in log:
        if isinstance(r, MailAccepted):
            if r.kind is MailKind.TRIGGER and r.notice is None:
                mailboxes[r.target].unread.append(r.mail)
        elif isinstance(r, TurnStarted | MailDrained):
            mailboxes[r.agent].read()
        elif isinstance(r, TurnReturned):
            mailboxes[r.agent].give_back()
        elif isinstance(r, MailWithdrawn | MailDemoted):
            mails = (r.mail,) if isinstance(r, MailWithdrawn) else r.mails
            answers.update(dict.fromkeys(mailboxes[r.agent].drop(mails), r.outcome))
        elif isinstance(r, AgentsClosed):
            for agent in r.agents:
                mailboxes[agent].bury()
        elif isinstance(r, TurnEnded):
            answers.update(dict.fromkeys(mailboxes[r.outcome.agent].end(), r.outcome))
    return answers


@define
class Mailbox:
    """The requests of one agent that have no answer yet."""

    unread: list[int] = field(factory=list[int])
    taken: list[int] = field(factory=list[int])
    buried: list[int] = field(factory=list[int])
    is_running: bool = False

    def read(self) -> None:
        """A turn has read all."""
        self.is_running = True
        self.taken += self.unread
        self.unread = []

    def give_back(self) -> None:
        """The turn was returned."""
        self.is_running = False
        self.unread = self.taken + self.unread
        self.taken = []

    def drop(self, mails: Iterable[int]) -> list[int]:
        """These ask for no turn any more. Returns those that were unread."""
        dropped = [mail for mail in mails if mail in self.unread]
        self.unread = [mail for mail in self.unread if mail not in dropped]
        return dropped

    def bury(self) -> None:
        """The agent was closed."""
        self.buried += self.unread
        self.unread = []

    def end(self) -> list[int]:
        """A turn has ended. Returns what that answers: what it took; all that is unread, if it had not started."""
        ended = [*(self.taken if self.is_running else self.unread), *self.buried]
        self.buried = []
        if self.is_running:
            self.taken = []
        else:
            self.unread = []
        self.is_running = False
        return ended
