"""What is proved of each property, and what is not and why: the one table from which specs/proof.md is made."""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class Extent(Enum):
    """How much of a property the proof covers."""

    WHOLE = "whole"
    PART = "part"
    NOT = "not"


@frozen
class Claim:
    """One property. `what` is proved; `missing` is not, with the reason."""

    property: str
    extent: Extent
    what: str
    missing: str = ""


WHOLE, PART, NOT = Extent.WHOLE, Extent.PART, Extent.NOT
LIVE = "`LIVE_THREADS` is not in the relation"

CLAIMS: tuple[Claim, ...] = (
    Claim("S1", PART, "at most `execution_cap` slots are held, and the counter is the number of holders", LIVE),
    Claim("S2", WHOLE, "at most `max_resident` sub-agents are in memory or in transit, counted likewise"),
    Claim(
        "S3", PART, "a slot is reserved exactly while its turn starts and active exactly while it runs or stops", LIVE
    ),
    Claim(
        "S4",
        PART,
        "an agent stands in the lines of its status and thread, once in each",
        "two threads of one agent: the relation has one by its types",
    ),
    Claim("S5", NOT, "", "it is about single mails and their order, of which the relation has the number alone"),
    Claim(
        "S6",
        PART,
        "only an evictable agent, or one whose own turn lets an older one go first, is ever unloading",
        "that the rollout is durable: the store is not in the relation",
    ),
    Claim(
        "S7",
        PART,
        "every open sub-agent has one open parent, one depth higher; `below` follows parents",
        "paths: names are not in the relation",
    ),
    Claim("S8", NOT, "", "causes of outcomes, and the status after a restart, are facts of records"),
    Claim(
        "S9",
        PART,
        "numbers of threads and turns only grow, and what is new has a larger one, so a fence stays shut",
        "numbers of flushes; that a report with an old number changes nothing is shown by the tie, not by the proof",
    ),
    Claim(
        "S10",
        PART,
        "what is closed holds nothing and is left alone; depth and number stay within their bounds",
        "that no agent outside the set is touched: the set of a close is a word of transitions",
    ),
    Claim("S11", NOT, "", "settings are not in the relation"),
    Claim("S12", NOT, "", "refusals are not in the relation; the tie compares that both refuse"),
    Claim("S13", WHOLE, "the root is open and resident, in no queue, not evictable, and in no count"),
    Claim("S14", WHOLE, "a turn that has started is in memory"),
    Claim("S15", WHOLE, "the victim is the one of N2, in a total order of use that has exactly the evictable agents"),
    Claim("S16", PART, "at most `max_resident - execution_cap` turns are in memory without a slot", LIVE),
    Claim("S17", WHOLE, "at most `max_attempts - 1` returned turns and max(3, `max_attempts`) lost loads in a row"),
    Claim("S18", NOT, "", "refusals are not in the relation; the tie compares that both refuse"),
    Claim("S19", NOT, "", "effects and records are not in the relation"),
    Claim(
        "S20",
        NOT,
        "",
        "the lines are in the relation, and it serves them in their order: that is its text, and so nothing to prove",
    ),
    Claim("S21", NOT, "", "what a wait is for is not in the relation"),
    Claim(
        "L1",
        PART,
        "a turn that finds no room had a flush that failed for it",
        "`ExecutionFull`: refusals are not in the relation; the tie compares that both refuse",
    ),
    Claim(
        "L2", WHOLE, "where no rule can fire, no agent is idle with trigger mail, and no slot is free while turns queue"
    ),
    Claim("L3", NOT, "", "who asked for a turn is not in the relation: it has no single mails, and so no requesters"),
    Claim(
        "L4",
        PART,
        "only turns that work wait, a waiting turn has a wait, a returning one stands in its line",
        "what a wait is for: any wait may end at any time, so nothing is proved of conditions",
    ),
    Claim("L5", NOT, "", "there is no time in the relation"),
    Claim("L6", WHOLE, "the line of use has every resident sub-agent without a turn in memory"),
    Claim("L7", NOT, "", "it is about paths of steps; the explorer shows it in its scopes"),
    Claim(
        "L8", WHOLE, "where no rule can fire and a slot is wanted, no holder may lend, and not all wait but by choice"
    ),
    Claim("L9", WHOLE, "at rest no slot is held and no turn queues, if sub-agents share a slot at all"),
    Claim(
        "L10",
        NOT,
        "",
        "circles are about what waits are for, and *alive* is a least fixed point, which first-order logic cannot say",
    ),
    Claim(
        "L11", WHOLE, "no turn passes one that is due, each that passes the oldest is counted; swaps at the bound aside"
    ),
    Claim("L12", WHOLE, "no turn starts while another returns, unless one is due"),
    Claim(
        "theorem 1",
        WHOLE,
        "something is in transit for a starting turn; none fails for want of room before a flush failed for it",
    ),
    Claim(
        "theorem 2",
        NOT,
        "",
        "it is about infinite paths, with fairness; the relation's steps alone do not say that turns end",
    ),
    Claim("theorem 3", WHOLE, "where a wait ends with STALLED, at least `max_resident` turns wait"),
    Claim("theorem 4", NOT, "", "which agent awaits which is not in the relation"),
)

OUTSIDE: tuple[tuple[str, str], ...] = (
    ("shutdown, the store's failure", "the relation is of an open session"),
    (
        "restart",
        "its result is an initial state: any tree and mail, nothing in memory; that recovery gives one is tested",
    ),
    (
        "LIVE_THREADS",
        "slots follow agents there and not turns: another relation, whose slots have no line and no lending",
    ),
    ("single mails, requesters, notices", "the relation counts trigger mail; a notice that wakes may come at any time"),
    ("conditions and circles of waits", "a wait may end at any time"),
    ("records, effects, replies, refusals, time", "compared with the reference model by the explorer"),
)
"""What the proof does not speak of, and why."""
