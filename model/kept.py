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


def follow(ledger: Ledger, records: Iterable[Record]) -> None:
    """Folds records as an opening does. Raises `Deviation` if it would refuse one of them."""
    for record in records:
        problem = judging.tail_problem(record, ledger)
        if problem is not None:
            raise Deviation("recovery", record, f"no record that can follow: {problem}")
        apply(ledger, record)


def compare_snapshot(session: Session) -> None:
    """Checks that a snapshot of this state is taken back, and comes to the facts that a crash would leave. Raises
    `Deviation`.
    """
    ledger, live = session.ledger, durable_facts(session.ledger)
    found: Any
    try:
        kept = ledger_of(session.config, [facts_of(ledger, agent) for agent in ledger.agents], ledger.mail_states)
        found = durable_facts(kept)
    except ValueError as error:
        found = f"no snapshot that can be: {error}"
    if found != live:
        raise Deviation("recovery", live, found)
