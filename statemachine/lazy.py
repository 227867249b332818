"""Names that are imported when they are first asked for, so that the core alone needs `attrs` and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from importlib import import_module


def lazily(module: str, names: Collection[str], homes: Sequence[str]) -> Callable[[str], object]:
    """The `__getattr__` of a module that offers these names, as far as it has not imported them: each is found in the
    first of the modules `homes` that has it.
    """

    def find(name: str) -> object:
        if name in names:
            for home in map(import_module, homes):
                if hasattr(home, name):
                    setattr(sys.modules[module], name, getattr(home, name))
                    return getattr(home, name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return find
