"""Says of each mutant that survived why it did. Written by people, after they had looked."""

from __future__ import annotations

from attrs import frozen

EQUIVALENT = "equivalent"
"""No caller can tell it from the core: it is slower or larger at most."""
MISSED = "missed"
"""A caller can, and no check of the evidence does."""
KINDS = (EQUIVALENT, MISSED)


@frozen
class Explanation:
    """Why a mutant survives: one of the kinds above, and the reason."""

    kind: str
    reason: str


SET = Explanation(EQUIVALENT, "The dict is a set in order: its keys are read, and its values never.")
EXPLAINED: dict[str, Explanation] = {
    "core.waits Waits.begin: `self.on_request.setdefault(request, {})[wait.number] = None`"
    ' -> `self.on_request.setdefault(request, {})[wait.number] = ""`': SET,
    'core.turns requeue: `s.slots.entitled[agent.id] = None` -> `s.slots.entitled[agent.id] = ""`': SET,
    'core.residency Residents.load_failed: `self.unsettled[agent.id] = None` -> `self.unsettled[agent.id] = ""`': SET,
}
"""The id of a mutant -> why it survives."""
MENDED: dict[str, str] = {
    'core.state State.below: `path = prefix.rstrip("/") or self.agents[ROOT].path`'
    " -> `path = prefix.rstrip('XX/XX') or self.agents[ROOT].path`": (
        "`list` is asked for a path that ends with a capital, which no agent has"
    ),
    "log.recovery restart: `s.slots.reserve(agent.id, agent.turn)` -> `s.slots.reserve(agent.id, None)`": (
        "S3: the slot of a live thread names a turn that the agent had"
    ),
    "core.turns end: `told = tell(s, outcome, answered + also, tell_always or timed_out, within, closing)`"
    " -> `told = tell(s, outcome, answered + also, tell_always or timed_out, within)`": (
        "the golden trace `close_makes_room`, and golden traces are played by the engine `log`"
    ),
    "log.recovery recover: `return restart(config, fold(config, records), now)`"
    " -> `return restart(config, fold(config, records), None)`": (
        "the logs of random lives are recovered, each at a time of its own"
    ),
    "log.strict Reader.__init__: `self.check = msgspec.json.Decoder[Any](self.shape).decode`"
    " -> `self.check = msgspec.json.Decoder[Any](None).decode`": (
        "readers are given each event, and each with a field missing, wrong or too many"
    ),
    "core.fingerprint fingerprint: `tuple(sorted(tried[a.id])) if a.id in tried else (),`"
    " -> `tuple(None) if a.id in tried else (),`": "the fingerprint of each state of a random life is taken",
}
"""The id of a mutant that no check noticed at first -> what was added, so that one does."""
