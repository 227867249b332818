"""What a store keeps of a session has to be taken back when the session is opened: its records, one by one, and a
snapshot of its facts at any moment. Judges that refuse what the core itself has written would lock users out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from statemachine.core.ledger import Ledger
from statemachine.core.records import Record
from statemachine.core.session import Session
from statemachine.log import judging
from statemachine.log.recovery import apply, durable_facts
from statemachine.log.snapshot import facts_of, ledger_of

from .lockstep import Deviation


class RecoveryDiffers(Deviation):
    """What is kept of a session is refused, or does not come to the facts of the session."""

    def __init__(self, detail: str) -> None:
        Exception.__init__(self, f"recovery: {detail}")
        self.what, self.detail = "recovery", detail


def follow(ledger: Ledger, records: Iterable[Record]) -> None:
    """Folds records as an opening does. Raises `RecoveryDiffers` if it would refuse one of them."""
    for record in records:
        problem = judging.tail_problem(record, ledger)
        if problem is not None:
            raise RecoveryDiffers(f"{record!r} would be refused: {problem}")
        apply(ledger, record)


def compare_snapshot(session: Session, live: Any) -> None:
    """Checks that a snapshot of this state is taken back, and comes to the durable facts, which are `live`. Raises
    `RecoveryDiffers`.
    """
    ledger = session.ledger
    facts = [facts_of(ledger, agent) for agent in ledger.agents]
    try:
        found = durable_facts(ledger_of(session.config, facts, ledger.mail_states))
    except ValueError as error:
        raise RecoveryDiffers(f"a snapshot would be refused: {error}") from error
    if found != live:
        raise RecoveryDiffers(f"a snapshot comes to {found!r}, where the session has {live!r}")
