"""python-statemachine installs the same import name; next to it, nothing of either can be relied on.

Both distributions write into one folder `statemachine`, and whichever came last has overwritten files of the other
(`__init__.py` for a start). So this package refuses to be imported next to it. If the other one's
`__init__.py` won, the modules that anybody would import of ours (`statemachine.core`, `statemachine_model`) still
say so.
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
    """Raises `ImportError` if python-statemachine is installed in any folder of `search`, with what to do."""
    for folder in search:
        try:
            names = os.listdir(folder or ".")
        except (OSError, ValueError):
            continue  # no folder, or none that we may read: nothing is imported from there either
        if any(OTHER.fullmatch(name) for name in names):
            raise ImportError(MESSAGE, name="statemachine")


refuse_the_other(sys.path)
