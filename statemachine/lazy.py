"""Imports names when they are first used, so that the core alone needs nothing but `attrs`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from importlib import import_module


def lazily(module: str, names: Collection[str], homes: Sequence[str]) -> Callable[[str], object]:
    """Returns the `__getattr__` of a module that offers these names and has not imported all of them: each is taken
    from the first of the modules `homes` that has it.
    """

    def find(name: str) -> object:
        if name in names:
            for home in map(import_module, homes):
                if hasattr(home, name):
                    setattr(sys.modules[module], name, getattr(home, name))
                    return getattr(home, name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return find
