"""What a session is configured with, and why some configurations are refused (semantics.md section 2)."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

from attrs import Attribute, Factory, field, frozen

from statemachine.core import exact
from statemachine.core.exact import WHOLE_MAX, shown
from statemachine.core.refusals import InvalidConfig

__all__ = ["Notice", "Overflow", "SessionConfig", "SlotPolicy"]

FLOAT_MAX = math.nextafter(math.inf, 0)


class SlotPolicy(Enum):
    """What holds an execution slot."""

    ACTIVE_TURNS = "active_turns"
    """A turn, while it is starting, running or stopping, but not while it has lent it."""
    LIVE_THREADS = "live_threads"
    """An agent, from spawn or resume to close or death, whatever it does. Such agents are never evicted."""


class Overflow(Enum):
    """What happens to a request for a turn when no slot is free."""

    REJECT = "reject"
    """It is refused with nothing changed."""
    QUEUE = "queue"
    """It is accepted, and the turn waits in the ready queue (J2)."""


class Notice(Enum):
    """The mail kind of the notice that a requester gets when a turn ends."""

    QUEUE = "queue"
    """Queue-only: starts no turn."""
    TRIGGER = "trigger"
    """Trigger: wakes an idle requester."""
    NONE = "none"
    """No notice at all."""


def _as_number(value: Any) -> Any:
    number = exact.number(value)
    return value if number is None else number  # which its validator refuses


def _seconds(default: float | None) -> Any:
    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if default is None and value is None:
            return
        if type(value) not in (int, float) or not 0 <= value <= (WHOLE_MAX if type(value) is int else FLOAT_MAX):
            raise InvalidConfig(f"{attribute.name} must be seconds, finite and at least 0, not {shown(value)}")

    return field(default=default, converter=_as_number, validator=check)


def _whole(least: int, default: Any) -> Any:
    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if default is None and value is None:
            return
        if type(value) is not int or not least <= value <= WHOLE_MAX:
            raise InvalidConfig(f"{attribute.name} must be a whole number, at least {least}, not {shown(value)}")

    return field(default=default, converter=_as_number, validator=check)


def _true_or_false(_: Any, attribute: Attribute[Any], value: Any) -> None:
    if type(value) is not bool:
        raise InvalidConfig(f"{attribute.name} must be True or False, not {shown(value)}")


def _member(kind: type[Enum]) -> Any:
    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if type(value) is not kind:
            raise InvalidConfig(f"{attribute.name} must be one of {', '.join(map(str, kind))}, not {shown(value)}")

    return check


def _default_resident(config: SessionConfig) -> int:
    most: Any = config.max_concurrent  # not yet validated
    return min(max(32, 8 * (most - 1)), WHOLE_MAX) if type(most) is int else 0


def _default_overflow(config: SessionConfig) -> Overflow:
    most: Any = config.max_concurrent  # not yet validated
    cannot_queue = config.slot_policy is SlotPolicy.LIVE_THREADS or (type(most) is int and most == 1)
    return Overflow.REJECT if cannot_queue else Overflow.QUEUE


@frozen(kw_only=True)
class SessionConfig:
    """The caps and rules of one session. Every limit is strict: no interleaving exceeds it (BUG-B09).

    Times are seconds. A configuration that cannot work raises `InvalidConfig` with the reason.
    """

    max_concurrent: int = _whole(1, 4)
    """Turns at the same time including the root's: sub-agents share `execution_cap = max_concurrent - 1`."""
    max_resident: int = _whole(0, Factory(_default_resident, takes_self=True))
    """Residency slots for sub-agents; at least `execution_cap` (theorem 1). By default the larger of 32 and 8 times
    that. What it exceeds `execution_cap` by is how many turns may lend their slot at the same time (S16).
    """
    slot_policy: SlotPolicy = field(default=SlotPolicy.ACTIVE_TURNS, validator=_member(SlotPolicy))
    overflow: Overflow = field(default=Factory(_default_overflow, takes_self=True), validator=_member(Overflow))
    """QUEUE by default, where turns can queue: not with `LIVE_THREADS`, nor with `max_concurrent=1`."""
    max_queued: int = _whole(1, 1000)
    """Turns in the ready queue."""
    max_depth: int | None = _whole(0, None)
    """Depth of the deepest agent; the root has depth 0. None: no bound."""
    max_agents: int | None = _whole(0, None)
    """Open sub-agents. None: no bound."""
    max_unread: int = _whole(2, 1000)
    """Unread mail per agent, notices still to come included (D7). The last place is for trigger mail (D16)."""
    max_message_bytes: int = _whole(1, 1 << 20)
    """UTF-8 bytes of one message."""
    notice: Notice = field(default=Notice.QUEUE, validator=_member(Notice))
    notify_interrupted: bool = field(default=False, validator=_true_or_false)
    """Does an interrupted turn send notices? (BUG-B40)"""
    flush_timeout: float = _seconds(10.0)
    load_timeout: float = _seconds(30.0)
    stop_grace: float = _seconds(5.0)
    max_wait: float = _seconds(3600.0)
    """The longest timeout that `wait` takes."""
    turn_timeout: float | None = _seconds(None)
    """Seconds from its start, waiting included, after which a turn is stopped. None: no bound."""
    max_attempts: int = _whole(1, 1)
    """How many turns in a row are tried for the same mail, if a crash or the death of the thread ends them (S17)."""
    max_overtaken: int = _whole(0, 256)
    """How many others may get a slot before the turn that has queued longest (L11). 0: first in, first out."""
    idle_ttl: float | None = _seconds(None)
    """Unload a resident that has been idle this long, without waiting for pressure. None: only pressure unloads."""

    def __attrs_post_init__(self) -> None:
        if self.max_resident < self.execution_cap:
            raise InvalidConfig(
                f"max_resident={self.max_resident} is less than the execution cap {self.execution_cap} "
                f"(max_concurrent={self.max_concurrent} less one for the root): turns with a slot could wait for each "
                "other's residency slots for ever; raise max_resident or lower max_concurrent"
            )
        if self.overflow is Overflow.QUEUE and self.execution_cap == 0:
            raise InvalidConfig(
                "overflow=QUEUE with max_concurrent=1 leaves sub-agents no slot: what is queued would wait for ever; "
                "raise max_concurrent, or use REJECT"
            )
        if self.slot_policy is SlotPolicy.LIVE_THREADS and self.overflow is Overflow.QUEUE:
            raise InvalidConfig(
                "LIVE_THREADS gives a slot back only on close or death, so what is queued may wait for ever; use REJECT"
            )
        if self.slot_policy is SlotPolicy.LIVE_THREADS and self.idle_ttl is not None:
            raise InvalidConfig("LIVE_THREADS never evicts, so idle_ttl cannot work; leave it out or use ACTIVE_TURNS")

    @property
    def execution_cap(self) -> int:
        """Slots that sub-agents share. The root's turn is not counted (S13)."""
        return max(0, self.max_concurrent - 1)
