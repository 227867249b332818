"""Runs the command `leases`: explores the lease protocol of hosts, and looks for the planted defects."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from ..leases.defects import DEFECTS, Defect
from ..leases.explore import Exploration, explore, story
from ..leases.properties import PROPERTIES
from ..leases.scopes import GOLDEN, SCOPES
from ..leases.world import Protocol
from ..printing import Console, say, table


def leases(long: bool, defects: bool, as_json: bool) -> NoReturn:
    """Explores, and with `defects` looks for these too; prints what was found, and exits: 1 if a property does not
    hold, a count is not the golden one, or a defect is not noticed as it should be.
    """
    with Console(stderr=True).status("") as status:

        def show(name: str) -> Callable[[int], None]:
            return lambda states: status.update(f"{name}: {states:,} states")

        found = [explore(scope, progress=show(scope.name)) for scope in SCOPES if long or not scope.long]
        noticed = {
            defect.name: noticed_by(explore(defect.scope, defect.protocol, show(defect.name), finds_all=True))
            for defect in (DEFECTS if defects else ())
        }
    wrong = [*map(differs, found), *(misses(defect, noticed.get(defect.name)) for defect in DEFECTS)]
    failures = [words for words in wrong if words]
    if as_json:
        say(json.dumps(in_json(found, noticed, failures), indent=2))
    else:
        show_all(found, noticed, failures)
    sys.exit(1 if failures else 0)


def differs(found: Exploration) -> str:
    """Returns what is wrong in a scope; nothing if all is well."""
    if found.faults:
        return story(found.faults[0], Protocol(found.scope))
    counts = found.states, found.steps
    if counts != GOLDEN[found.scope.name]:
        return f"scope '{found.scope.name}' has {counts} states and steps, and should have {GOLDEN[found.scope.name]}"
    return ""


def noticed_by(found: Exploration) -> tuple[str, ...]:
    """Returns the ids of the properties that notice a defect."""
    return tuple(sorted(fault.property.id for fault in found.faults))


def misses(defect: Defect, noticed: tuple[str, ...] | None) -> str:
    """Returns what is wrong with who notices a defect; nothing if all is well, or it was not looked for."""
    if noticed is None or noticed == defect.noticed_by:
        return ""
    return f"defect {defect.name} is noticed by {noticed}, and should be by {defect.noticed_by}"


def show_all(found: list[Exploration], noticed: dict[str, tuple[str, ...]], failures: list[str]) -> None:
    """Prints the result for people."""
    console = Console()
    broken = {fault.property.id for each in found for fault in each.faults}
    judged = table("property", "sentence", "judged on", "verdict")
    for known in PROPERTIES:
        judged.add_row(known.id, known.sentence, known.judged_on, "FAILED" if known.id in broken else "holds")
    console.print(judged)
    scopes = table("scope", "what it is", "states", "steps", "depth", "seconds")
    for each in found:
        sizes = f"{each.states:,}", f"{each.steps:,}", f"{each.depth}", f"{each.seconds:.1f}"
        scopes.add_row(each.scope.name, each.scope.meaning, *sizes)
    console.print(scopes)
    if noticed:
        planted = table("defect", "what is otherwise", "noticed by")
        for defect in DEFECTS:
            planted.add_row(defect.name, defect.sentence, ", ".join(noticed[defect.name]) or "-")
        console.print(planted)
    for words in failures:
        say(words)


def in_json(found: list[Exploration], noticed: dict[str, tuple[str, ...]], failures: list[str]) -> dict[str, Any]:
    """Returns the result for programs."""
    return {
        "held": not failures,
        "scopes": [
            {
                "name": each.scope.name,
                "states": each.states,
                "steps": each.steps,
                "depth": each.depth,
                "seconds": round(each.seconds, 2),
                "broken": [fault.property.id for fault in each.faults],
            }
            for each in found
        ],
        "defects": noticed,
        "failures": failures,
    }
