"""Reads a session's file all the time while another process owns it, writes it, or dies.

Each read has to be a state of the log: it begins with what was read before, and every property holds of it.
"""

from __future__ import annotations

import os
import sqlite3
import traceback
from functools import partial

from statemachine.checking import properties
from statemachine.log.recovery import restart
from statemachine.stores import reading
from statemachine.stores.errors import StoreMissing
from statemachine.stores.reading import read_rollout, read_session

from .child import Journal, Order, config_of

Row = tuple[int, int, str, str]


def main(order: Order, file: int) -> None:
    """Runs the process, which reads until it is killed, and writes each fault that it finds."""
    journal = Journal(partial(os.write, file), order.number)
    try:
        read_for_ever(order, journal)
    except BaseException:
        journal.line(broken=traceback.format_exc())


def read_for_ever(order: Order, journal: Journal) -> None:
    known: list[Row] = []
    rollouts: dict[int, int] = {}
    epoch = 0
    while True:
        try:
            found = read_session(order.path)
        except StoreMissing:
            if epoch == 0:
                continue  # the file does not exist yet
            raise
        if found.epoch < epoch:
            journal.line(broken=f"epoch {found.epoch} was read after {epoch}")
        epoch = found.epoch
        session, _ = restart(config_of(order.seed), found.ledger, 0.0)
        properties.check(session)
        for agent in session.agents:
            count = len(read_rollout(order.path, agent.id))
            if count < rollouts.get(agent.id, 0):
                journal.line(broken=f"the rollout of agent {agent.id} was longer before")
            rollouts[agent.id] = count
        rows = reading.reading(order.path, rows_of)
        if rows[: len(known)] != known:
            journal.line(broken="what was read before is not the beginning of what is there now")
        known = rows
        journal.line(read=len(rows))


def rows_of(connection: sqlite3.Connection) -> list[Row]:
    """Returns all rows of rollouts. Other rows are deleted when a snapshot covers them."""
    return connection.execute(
        "SELECT position, agent, kind, data FROM log WHERE agent IS NOT NULL ORDER BY position"
    ).fetchall()
