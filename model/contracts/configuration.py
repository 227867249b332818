"""Contracts on the configuration: what is refused, and what defaults come to (section 2, theorem 1, D1)."""

from __future__ import annotations

from typing import Any

from statemachine.core import config
from statemachine.core.config import Overflow, SessionConfig, SlotPolicy
from statemachine.core.exact import WHOLE_MAX
from statemachine.core.refusals import InvalidConfig

from .contract import contract

LIVE, QUEUE = SlotPolicy.LIVE_THREADS, Overflow.QUEUE


def is_small(concurrent: int, resident: int = 0, **_: Any) -> bool:
    """A refusal shows the numbers, each a path of its own: so these are bounded."""
    return -1 <= concurrent <= 3 and -1 <= resident <= 3


def is_refused(**caps: Any) -> bool:
    try:
        SessionConfig(**caps)
    except InvalidConfig:
        return True
    return False


@contract("S13", SessionConfig, "execution_cap", property(lambda self: self.max_concurrent), "the root's turn counts")
def root_takes_no_slot_of_the_sub_agents(concurrent: int) -> bool:
    made = SessionConfig.__new__(SessionConfig)
    object.__setattr__(made, "max_concurrent", concurrent)
    return made.execution_cap == (concurrent - 1 if concurrent > 1 else 0)


@contract("L1", config, "_default_resident", lambda made: 32, "32 whatever the cap is")
def default_of_max_resident_has_room_for_eight_times_the_cap(concurrent: int) -> bool:
    made = SessionConfig.__new__(SessionConfig)
    object.__setattr__(made, "max_concurrent", concurrent)
    resident = config._default_resident(made)
    wanted = 8 * (concurrent - 1)
    is_enough = resident >= 32 and (resident >= wanted or resident == WHOLE_MAX)
    return is_enough and resident in (32, wanted, WHOLE_MAX)


@contract("L1", config, "_default_overflow", lambda made: QUEUE, "QUEUE, whatever the cap is")
def default_of_overflow_is_queue_wherever_a_slot_has_to_come_free(concurrent: int, policy: SlotPolicy) -> bool:
    made = SessionConfig.__new__(SessionConfig)
    object.__setattr__(made, "max_concurrent", concurrent)
    object.__setattr__(made, "slot_policy", policy)
    return (config._default_overflow(made) == QUEUE) == (policy != LIVE and concurrent != 1)


@contract("L1", SessionConfig, "__attrs_post_init__", lambda self: None, "nothing is refused", is_small)
def configuration_with_less_memory_than_slots_is_refused(concurrent: int, resident: int) -> bool:
    is_wrong = concurrent < 1 or resident < 0 or resident < concurrent - 1
    return is_refused(max_concurrent=concurrent, max_resident=resident) == is_wrong


@contract("L7", SessionConfig, "__attrs_post_init__", lambda self: None, "nothing is refused", is_small)
def configuration_in_which_a_queue_would_wait_for_ever_is_refused(
    concurrent: int, policy: SlotPolicy, overflow: Overflow, has_ttl: bool
) -> bool:
    caps: dict[str, Any] = {"max_concurrent": concurrent, "slot_policy": policy, "overflow": overflow}
    waits = overflow == QUEUE and (policy == LIVE or concurrent == 1)
    is_wrong = concurrent < 1 or waits or (policy == LIVE and has_ttl)
    return is_refused(**caps, idle_ttl=1 if has_ttl else None) == is_wrong
