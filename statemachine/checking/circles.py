"""Finds the waits that can never end (J9, L10), as semantics.md has it: built up from those that end in any case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from statemachine.core.events import WaitMode
from statemachine.core.waits import Waiting


def dead_waits(waits: Iterable[Waiting], requests: Mapping[int, int]) -> list[Waiting]:
    """Returns those of all waits that are not alive. `requests`: what is not answered -> the agent that is asked."""
    dead = [wait for wait in waits if not (wait.is_bounded or wait.mail or wait.is_own_choice)]
    while dead:
        stuck = {wait.agent for wait in dead}
        still = [wait for wait in dead if not leads_out(wait, requests, stuck)]
        if len(still) == len(dead):
            break
        dead = still
    return dead


def leads_out(wait: Waiting, requests: Mapping[int, int], stuck: set[int]) -> bool:
    """Does the wait lead to enough agents that are not stuck?"""
    free = [requests[request] not in stuck for request in wait.requests if request in requests]
    enough = bool(free) and (all(free) if wait.mode is WaitMode.ALL else any(free))
    return enough or any(target not in stuck for target in wait.targets)
