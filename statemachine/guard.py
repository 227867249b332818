"""Refuses to be imported beside python-statemachine, which installs the same import name.

Both distributions write into one folder `statemachine`, and the one installed last has overwritten files of the other
(`__init__.py`, for example), so neither can be relied on. If the other one's `__init__.py` is in place, the modules
that users import from ours (`statemachine.core`, `statemachine_model`) still refuse.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable

OTHER = re.compile(r"python_statemachine(-.*)?\.(dist|egg)-info")
"""The name under which the other distribution's metadata lies beside its files, with or without a version."""

MESSAGE = (
    "python-statemachine is installed beside agent-statemachine, and both use the import name 'statemachine', so files "
    "of one replace or hide files of the other. Use one of them per environment: "
    "'pip uninstall python-statemachine agent-statemachine', then install the one you want again."
)


def refuse_the_other(search: Iterable[str]) -> None:
    """Raises `ImportError`, which says what to do, if python-statemachine is installed in a folder of `search`."""
    for folder in search:
        try:
            names = os.listdir(folder or ".")
        except (OSError, ValueError):
            continue  # not a folder, or not readable: nothing is imported from it either
        if any(OTHER.fullmatch(name) for name in names):
            raise ImportError(MESSAGE, name="statemachine")


refuse_the_other(sys.path)
