"""A planted defect for each transition: the proof must refute it, or it proves nothing about that transition.

Each has the name of the obligation that it breaks. The refutation is a model of Z3: a few agents, before and after,
which `story` prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import z3
from attrs import evolve, frozen

from statemachine.core.machines import Identity, Residency, SlotState, TurnState

from . import relation as r
from .logic import Agent, Bounded, Term
from .prover import Proof, Proofs, prove
from .relation import TRANSITIONS, Transition
from .state import CONFIG, FLAGS, LINES, NUMBERS, RELATIONS, SCALARS, State


@frozen
class Defect:
    """A transition that is wrong: with another guard, or another effect."""

    transition: str
    sentence: str
    breaks: str
    """The invariant, counter or step property that is refuted."""
    guard: Callable[..., Term] | None = None
    effect: Callable[..., State] | None = None

    def planted(self) -> Transition:
        """The transition with the defect."""
        sound = TRANSITIONS[self.transition]
        return evolve(
            sound,
            guard=sound.guard if self.guard is None else self.guard,
            effect=sound.effect if self.effect is None else self.effect,
        )


def but(name: str, **values: Callable[[State, Agent], Term]) -> Callable[..., State]:
    """The effect of the transition, but for these fields of its first agent, computed from the state before."""

    def effect(s: State, x: Agent, *rest: Agent) -> State:
        after = TRANSITIONS[name].effect(s, x, *rest)
        return after.at(x, **{field: value(s, x) for field, value in values.items()})

    return effect


def off(name: str, **amounts: int) -> Callable[..., State]:
    """The effect of the transition, with these counters off by so much."""

    def effect(s: State, *agents: Agent) -> State:
        return TRANSITIONS[name].effect(s, *agents).add(**amounts)

    return effect


def kept(name: str, relation: str) -> Callable[..., State]:
    """The effect of the transition, but the relation is as before."""

    def effect(s: State, *agents: Agent) -> State:
        return TRANSITIONS[name].effect(s, *agents).put(**{relation: s.parts[relation]})

    return effect


def unchanged(field: str) -> Callable[[State, Agent], Term]:
    """The value of the field before."""
    return lambda s, x: s.parts[field](x)


def constant(value: Any) -> Callable[[State, Agent], Term]:
    """This value."""
    return lambda s, x: value


def last_lends(s: State, x: Agent, y: Agent) -> Term:
    """The lender that began to wait last, where the first should lend."""
    logic = s.logic
    last = logic.all(s.lender(y) > 0, logic.forall(lambda z: s.lender(z) <= s.lender(y)))
    return logic.all(r.is_first(s, x, "returning"), last, logic.no(r.slot_is_free(s)), logic.no(r.may_lend(s)))


def any_victim(s: State, x: Agent, v: Agent) -> Term:
    """The least recently used, trigger mail or not."""
    return s.logic.all(r.no_help_comes(s, x), r.is_first(s, v, "use"), s.logic.no(s.tried(x, v)))


def served_twice(s: State, x: Agent, u: Agent) -> Term:
    """Another agent leaves for it already."""
    return s.logic.all(r.needs_room(s, x), r.serves_none(s, u))


def gives_up_early(s: State, x: Agent) -> Term:
    """Before any victim was tried."""
    return r.no_help_comes(s, x)


def closes_parents(s: State, x: Agent) -> Term:
    return s.logic.all(x != s.logic.root, s.identity(x) == r.OPEN)


def next_in_spite(can_end: Callable[[State, Agent], Term]) -> Callable[[State, Agent], Term]:
    """*next* although another turn comes first."""

    def guard(s: State, x: Agent) -> Term:
        return s.logic.all(can_end(s, x), s.triggers(x) > 0, r.holds(s, x), s.identity(x) == r.OPEN)

    return guard


def works_and_is_lost(s: State, x: Agent) -> Term:
    return s.logic.all(r.works(s, x), s.logic.no(r.may_return(s, x)))


DEFECTS: tuple[Defect, ...] = (
    Defect("spawn", "the parent may be closed", "tree", guard=lambda s, x, p: s.identity(x) == r.UNKNOWN),
    Defect("ask", "a closed agent accepts mail", "closed holds nothing", guard=lambda s, x: s.identity(x) >= r.UNKNOWN),
    Defect(
        "notice",
        "a closed requester keeps its notice",
        "closed holds nothing",
        guard=lambda s, x: s.identity(x) >= r.UNKNOWN,
    ),
    Defect("demote", "mail is demoted twice", "types", effect=lambda s, x: s.at(x, triggers=s.triggers(x) - 2)),
    Defect(
        "drain",
        "reading ends the waits",
        "who may lend",
        effect=but("drain", conditional=constant(0), chosen=constant(0)),
    ),
    Defect("stop", "a turn that stops goes on waiting", "waits", effect=lambda s, x: s.at(x, status=r.STOPPING)),
    Defect("cancel_queued", "it still queues", "in line", effect=but("cancel_queued", ready=unchanged("ready"))),
    Defect(
        "cancel_starting",
        "its slot leaks",
        "a slot is its turn's",
        effect=but("cancel_starting", slot=unchanged("slot")),
    ),
    Defect("close", "what is below stays open", "tree", guard=closes_parents),
    Defect("resume", "the parent may be closed", "tree", guard=lambda s, x: s.identity(x) == r.CLOSED),
    Defect("forget", "children are not forgotten", "tree", guard=lambda s, x: s.identity(x) == r.CLOSED),
    Defect("wait", "the turn stands in no line", "who may lend", effect=but("wait", lender=unchanged("lender"))),
    Defect("wait_by_choice", "a turn that stops may wait", "waits", guard=lambda s, x: s.status(x) >= r.RUNNING),
    Defect(
        "wait_over", "the turn is not called back", "waiting waits", effect=but("wait_over", status=unchanged("status"))
    ),
    Defect(
        "choice_over",
        "it returns out of line",
        "returning",
        effect=but("choice_over", returning=unchanged("returning")),
    ),
    Defect("loaded", "an idle agent is never evicted", "evictable", effect=but("loaded", use=constant(0))),
    Defect("load_failed", "its residency slot leaks", "occupied", effect=off("load_failed", occupied=1)),
    Defect(
        "load_failed_starting",
        "its slot leaks",
        "a slot is its turn's",
        effect=but("load_failed_starting", slot=unchanged("slot")),
    ),
    Defect("flushed", "what is gone still makes room", "serves", effect=kept("flushed", "serves")),
    Defect("flush_failed", "it is never evicted again", "evictable", effect=but("flush_failed", use=constant(0))),
    Defect(
        "idle_overdue",
        "an agent at work is unloaded",
        "what leaves does not run",
        guard=lambda s, x: s.logic.all(x != s.logic.root, s.residency(x) == r.RESIDENT),
    ),
    Defect("died", "its residency slot leaks", "occupied", effect=off("died", occupied=1)),
    Defect("died_returned", "one attempt too many", "attempts", guard=r.works),
    Defect("finished", "its slot leaks", "a slot is its turn's", effect=but("finished", slot=unchanged("slot"))),
    Defect("finished_next", "a returning turn is passed over", "returning first", guard=next_in_spite(r.has_begun)),
    Defect("failed", "its slot is counted for ever", "held", effect=off("failed", held=1)),
    Defect(
        "failed_next",
        "the next turn has the same number",
        "numbers grow",
        effect=but("failed_next", turn=unchanged("turn")),
    ),
    Defect(
        "aborted",
        "it has lent its slot for ever",
        "a slot is its turn's",
        effect=but("aborted", lent=unchanged("lent")),
    ),
    Defect("aborted_next", "overtaking is not counted", "fairness of turns", effect=off("aborted_next", overtaken=-1)),
    Defect("dropped", "its residency slot leaks", "occupied", effect=off("dropped", occupied=1)),
    Defect(
        "dropped_next",
        "the slot is still active",
        "a slot is its turn's",
        effect=but("dropped_next", slot=unchanged("slot")),
    ),
    Defect(
        "died_failed", "a dead agent is evictable", "evictable", effect=but("died_failed", use=lambda s, x: s.clock + 1)
    ),
    Defect(
        "died_failed_next",
        "a turn that is due is passed over",
        "fairness of turns",
        guard=next_in_spite(works_and_is_lost),
    ),
    Defect("request", "the root queues", "in line", effect=but("request", ready=lambda s, x: s.clock + 1)),
    Defect("admit_root", "the root is counted", "held", effect=off("admit_root", held=1)),
    Defect("go_on", "no slot is free", "slots", guard=lambda s, x: r.is_first(s, x, "returning")),
    Defect("admit", "no slot is free", "slots", guard=r.is_next_in_queue),
    Defect("swap", "the last to wait lends", "wait order", guard=last_lends),
    Defect("lend", "beyond the bound", "without a slot", guard=lambda s, x: r.is_first(s, x, "lender")),
    Defect(
        "stalled",
        "it still stands among the lenders",
        "who may lend",
        effect=but("stalled", lender=unchanged("lender")),
    ),
    Defect("start", "there is no thread yet", "running is resident", guard=lambda s, x: s.status(x) == r.STARTING),
    Defect(
        "load", "there is no room", "residency", guard=lambda s, x: s.logic.all(r.needs_room(s, x), r.may_load(s, x))
    ),
    Defect("loads_lost", "its slot leaks", "a slot is its turn's", effect=but("loads_lost", slot=unchanged("slot"))),
    Defect("adopt", "two agents leave for one turn", "room from one", guard=served_twice),
    Defect("evict", "trigger mail protects no agent", "victim", guard=any_victim),
    Defect("no_room", "no victim was tried", "true failure", guard=gives_up_early),
    Defect("keep", "what stays still makes room", "serves", effect=kept("keep", "serves")),
)
"""One for each transition."""


@frozen
class Refuted:
    """What became of a defect."""

    defect: Defect
    proof: Proof
    story: tuple[str, ...]

    @property
    def is_refuted(self) -> bool:
        """Is there a counterexample?"""
        return self.proof.model is not None


def refute(proofs: Proofs, defect: Defect) -> Refuted:
    """Judges the obligation that the defect breaks."""
    planted = defect.planted()
    (obligation,) = [o for o in proofs.of(planted) if o.name == f"{planted.name}: {defect.breaks}"]
    proof = prove(evolve(obligation, hints=()))
    lines = () if proof.model is None else tuple(story(proofs, planted, defect, proof.model))
    return Refuted(defect, proof, lines)


# Stories

SHOWN: dict[str, Any] = {"identity": Identity, "status": TurnState, "residency": Residency, "slot": SlotState}
"""Fields whose values have names."""


def story(proofs: Proofs, planted: Transition, defect: Defect, model: z3.ModelRef) -> Iterator[str]:
    """The counterexample in words: caps, then every agent before, and what of it is changed."""
    s = proofs.state
    agents = proofs.named[: planted.agents]
    after = planted.effect(s, *agents)
    names = called(proofs, model, agents)
    yield f"{planted.name} ({planted.rule}), where {defect.sentence}: breaks {defect.breaks}"
    caps = ", ".join(f"{name} {model.eval(s.parts[name], True)}" for name in (*CONFIG, *SCALARS) if name != "clock")
    yield f"  {caps}"
    for agent, name in names.items():
        facts = [*facts_of(model, s, agent), *relations_of(model, s, agent, names)]
        yield f"  {name}: {', '.join(facts) or 'not spawned'}"
    yield f"  {planted.name} {' '.join(names[model.eval(x, True)] for x in agents)}"
    for agent, name in names.items():
        was = {*facts_of(model, s, agent), *relations_of(model, s, agent, names)}
        now = [*facts_of(model, after, agent), *relations_of(model, after, agent, names)]
        new, old = [fact for fact in now if fact not in was], sorted(was - {*now})
        if new or old:
            yield f"  {name}: now {', '.join(new) or '-'}; was {', '.join(old) or '-'}"
    moved = [
        f"{name} {model.eval(s.parts[name], True)} -> {model.eval(after.parts[name], True)}"
        for name in SCALARS
        if name != "clock" and str(model.eval(s.parts[name], True)) != str(model.eval(after.parts[name], True))
    ]
    yield f"  session: {', '.join(moved) or 'nothing counted has changed'}"


def called(proofs: Proofs, model: z3.ModelRef, agents: tuple[Agent, ...]) -> dict[Any, str]:
    """The agents of the model -> names: `root`, those that the transition names, and others."""
    names: dict[Any, str] = {model.eval(proofs.logic.root, True): "root"}
    for agent in agents:
        names.setdefault(model.eval(agent, True), f"/{agent}")
    assert isinstance(proofs.logic, Bounded)
    for i, agent in enumerate(one for one in proofs.logic.members if one not in names):
        names[agent] = f"/other{i + 1}"
    return names


def facts_of(model: z3.ModelRef, s: State, agent: Any) -> Iterator[str]:
    """What is not ordinary of an agent."""
    for name in (*NUMBERS, *LINES, *FLAGS):
        value = model.eval(s.parts[name](agent), True)
        if z3.is_bool(value):
            if z3.is_true(value):
                yield name
        elif name in SHOWN:
            yield SHOWN[name](value.as_long()).name.lower() if 0 <= value.as_long() < len(SHOWN[name]) else f"{value}"
        elif value.as_long() != 0:
            yield f"{name} {value}"


def relations_of(model: z3.ModelRef, s: State, agent: Any, names: dict[Any, str]) -> Iterator[str]:
    """What relations it stands in."""
    for name in RELATIONS:
        for other, called_so in names.items():
            if name != "below" and z3.is_true(model.eval(s.parts[name](agent, other), True)):
                yield f"{name} {called_so}"
