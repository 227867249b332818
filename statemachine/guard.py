"""python-statemachine installs the same import name; next to it, nothing of either can be relied on.

Both distributions write into one folder `statemachine`, and whichever came last has overwritten files of the other
(`__init__.py` and `events.py` for a start). So this package refuses to be imported next to it. If the other one's
`__init__.py` won, the modules that anybody would import of ours (`statemachine.session`, `model`) still say so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

MESSAGE = (
    "python-statemachine is installed beside agent-statemachine, and both use the import name 'statemachine', so files "
    "of one have replaced files of the other. Use one of them per environment: "
    "'pip uninstall python-statemachine agent-statemachine', then install the one you want again."
)


def refuse_the_other(search: Iterable[str]) -> None:
    """Raises `ImportError` if python-statemachine is installed in any folder of `search`, with what to do."""
    for folder in search:
        path = Path(folder or ".")
        if path.is_dir() and next(path.glob("python_statemachine-*.dist-info"), None) is not None:
            raise ImportError(MESSAGE, name="statemachine")


refuse_the_other(sys.path)
