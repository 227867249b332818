"""Reads a session's file all the time while another process owns it, writes it, or dies.

Each read has to be a state of the log: it begins with what was read before, but for the rollouts of agents that were
forgotten in between, and every property holds of it.
"""

from __future__ import annotations

import os
import sqlite3
import traceback
from functools import partial

from statemachine.checking import properties
from statemachine.core.machines import Identity
from statemachine.log.recovery import restart
from statemachine.stores.errors import StoreMissing
from statemachine.stores.sqlite import reading, tables
from statemachine.stores.sqlite.reading import read_rollout, read_session

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
            if count < rollouts.get(agent.id, 0) and not is_forgotten(order.path, agent.id):
                journal.line(broken=f"the rollout of agent {agent.id} was longer before")
            rollouts[agent.id] = count
        rows = reading.reading(order.path, rows_of)
        there = {agent for _, agent, _, _ in rows}
        gone = {agent for _, agent, _, _ in known if agent not in there}
        kept = [row for row in known if row[1] in there]
        if rows[: len(kept)] != kept or not all(is_forgotten(order.path, agent) for agent in gone):
            journal.line(broken="what was read before is not the beginning of what is there now")
        known = rows
        journal.line(read=reading.reading(order.path, end_of))


def is_forgotten(path: str, agent: int) -> bool:
    """Is nothing known of the agent any more? Read anew: it may have been forgotten a moment ago."""
    return read_session(path).ledger.agents[agent].identity is Identity.FORGOTTEN


def end_of(connection: sqlite3.Connection) -> int:
    """Returns the last position of the log. There are fewer rows, and they get fewer when agents are forgotten."""
    return tables.last_position(connection, tables.read_meta(connection).covered)


def rows_of(connection: sqlite3.Connection) -> list[Row]:
    """Returns all rows of rollouts. Other rows are deleted when a snapshot covers them."""
    return connection.execute(
        "SELECT position, agent, kind, data FROM log WHERE agent IS NOT NULL ORDER BY position"
    ).fetchall()
