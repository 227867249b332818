"""Draws random configurations, for the fuzz, the simulated lives and the killed processes: the one place that does.

A menu has the possible values of each field of `SessionConfig`. The fuzz has the widest one, and the others replace
what does not suit them: what is added to `FUZZED` is drawn everywhere. `tests/test_configurations.py` fails for a field
that is on no menu, and for one that a menu has and `draw` loses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from statemachine.core.config import Notice, Overflow, SessionConfig, SlotPolicy

Menu = Mapping[str, Sequence[Any]]
"""Field -> its values, each as often as it should be chosen; a single value if the field is not to vary. Two entries
are not plain values: `policies` are pairs of `slot_policy` and `overflow`, since not all of them go together, and
`max_resident` counts from the least that there must be."""
Choose = Callable[[Sequence[Any]], Any]

REJECT = (SlotPolicy.ACTIVE_TURNS, Overflow.REJECT)
QUEUE = (SlotPolicy.ACTIVE_TURNS, Overflow.QUEUE)
LIVE = (SlotPolicy.LIVE_THREADS, Overflow.REJECT)

FUZZED: Menu = {
    "policies": (QUEUE, QUEUE, QUEUE, QUEUE, QUEUE, REJECT, REJECT, REJECT, LIVE),
    "max_concurrent": (4, 2, 3, 2, 3, 2, 6, 1, 10),
    "max_resident": (0, 0, 1, 1, 3, 1, 2, 8),
    "max_queued": (1000, 1, 1, 2, 4),
    "max_depth": (None, None, 2, 4, 1),
    "max_agents": (None, None, 8, 5, 3),
    "max_unread": (1000, 1000, 1000, 1000, 6, 4, 3, 2),
    "max_message_bytes": (1 << 20, 8),
    "notice": (Notice.QUEUE, Notice.TRIGGER, Notice.TRIGGER, Notice.NONE),
    "notify_interrupted": (False, True),
    "flush_timeout": (10.0, 3.0, 2.0, 0.0),
    "load_timeout": (30.0, 4.0, 2.0, 0.0),
    "stop_grace": (5.0, 3.0, 1.0, 0.0),
    "max_wait": (3600.0, 3.0),
    "idle_ttl": (None, None, 4.0, 1.0, 0.0),
    "turn_timeout": (None, None, None, None, 9.0, 3.0, 0.0),
    "max_attempts": (1, 1, 2, 3),
    "max_overtaken": (256, 256, 0, 1, 2, 4),
}
"""Small enough that limits are reached, large enough that work gets done; the default first."""

SIMULATED: Menu = {
    **FUZZED,
    "policies": (REJECT, REJECT, REJECT, QUEUE, QUEUE, QUEUE, QUEUE, QUEUE, LIVE, LIVE),
    "max_concurrent": (2, 2, 3, 3, 4, 4, 1),
    "max_resident": (0, 1, 3, 8),
    "max_queued": (1000, 1, 2),
    "max_depth": (None, None, 1, 2),
    "max_agents": (None, None, 2, 4),
    "max_unread": (1000, 4, 2),
    "max_message_bytes": (1 << 20, 1 << 20, 1 << 20, 2),  # enough for "m9", not for "m10"
    "notice": tuple(Notice),
    "flush_timeout": (0.5, 2.0),
    "load_timeout": (1.0, 2.0),
    "stop_grace": (0.5, 0.5, 2.0),
    "max_wait": (5.0, 5.0, 1.0),
    "idle_ttl": (None, None, 0.1, 1.0),
    "turn_timeout": (None, 8.0, 1.0),
    "max_attempts": (1, 1, 3),
    "max_overtaken": (256, 256, 1),
}
"""Virtual seconds, all far below the patience of the simulation."""

KILLED: Menu = {
    **FUZZED,
    "policies": (REJECT, QUEUE, QUEUE),
    "max_concurrent": (2, 3, 4, 5),
    "max_resident": (0, 0, 1, 3),
    "max_queued": (3, 30),
    "max_depth": (4,),  # deep enough for any request that is repeated after a restart
    "max_agents": (24,),
    "max_unread": (4, 30),
    "max_message_bytes": (1 << 20,),
    "notice": tuple(Notice),
    "flush_timeout": (0.02,),
    "load_timeout": (30.0,),
    "stop_grace": (0.01,),
    "max_wait": (10.0,),
    "idle_ttl": (None, None, None, 0.005),
    "turn_timeout": (None, None, None, 5.0),
    "max_attempts": (1, 3),
    "max_overtaken": (256, 256, 2),
}
"""Real seconds, so short ones: a process is killed before a second is over."""

KILLED_LIVE: Menu = {**KILLED, "policies": (LIVE,), "max_concurrent": (25,)}
"""The same with a slot for every agent, since each agent keeps its own."""


def draw(menu: Menu, choose: Choose) -> SessionConfig:
    """Returns a configuration from this menu. `choose` takes one of several."""
    values = {name: choose(among) for name, among in menu.items()}
    slot_policy, overflow = values.pop("policies")
    max_concurrent = values["max_concurrent"]
    values["max_resident"] += max_concurrent - 1
    if slot_policy is SlotPolicy.LIVE_THREADS:
        values["idle_ttl"] = None
    if max_concurrent == 1:
        overflow = Overflow.REJECT
    return SessionConfig(slot_policy=slot_policy, overflow=overflow, **values)
