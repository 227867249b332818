"""No field of the configuration is forgotten by what draws configurations at random."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import attrs
import pytest

from model.configurations import SIMULATED, draw
from model.crashes import child
from model.fuzzing import chance
from statemachine.core.config import SessionConfig

CONFIGURATIONS = 500
DRAWN: dict[str, Callable[[Random], SessionConfig]] = {
    "fuzz": lambda rng: chance.config_of(rng.randbytes(chance.CONFIG_BYTES)),
    "simulation": lambda rng: draw(SIMULATED, rng.choice),
    "kills": lambda rng: child.config_of(rng.randrange(1 << 32)),
}
CONSTANT = {
    "fuzz": set[str](),
    "simulation": set[str](),
    "kills": {
        *("max_depth", "max_agents", "max_message_bytes"),
        *("flush_timeout", "load_timeout", "stop_grace", "max_wait"),
    },
}
"""What does not vary on purpose: processes that are killed in real time have little of it."""


@pytest.mark.parametrize("where", DRAWN)
def test_every_field_of_the_configuration_varies_where_configurations_are_drawn(where: str) -> None:
    rng = Random(1)
    configs = [DRAWN[where](rng) for _ in range(CONFIGURATIONS)]
    fields = [field.name for field in attrs.fields(SessionConfig)]
    constant = {name for name in fields if len({getattr(config, name) for config in configs}) < 2}
    forgotten = constant - CONSTANT[where]
    assert not forgotten, f"never drawn: {forgotten}; give them values in model/configurations.py"
    assert constant == CONSTANT[where]
