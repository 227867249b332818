"""The command `statemachine`, also as `python -m statemachine`: finds the package that judges this one, and hands over.

Nothing in `statemachine` imports `model`, and neither does this module. It does what a shell does with the name of a
program: looks it up when a person asks for it. No other module imports this one, nothing of what is found is used but
its `main`, and without it the product works as before. So this is not an arrow between rooms.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

BESIDE = Path(__file__).resolve().parents[1]
NAMES = ("statemachine_model", "model")
"""The import name of the judging package: as a wheel has it, and as a checkout does."""
REMEDY = "pip install 'agent-statemachine[check]'"


def main() -> None:
    """Runs the command. Exits with code 2 and one line on stderr if what it needs is not installed."""
    name = judging_package()
    if name is None:
        what = f"{' or '.join(NAMES)} cannot be imported from {BESIDE}: it is not there, or another one comes first"
        fail(f"{what}; the command needs: {REMEDY}")
    try:
        command = import_module(f"{name}.command.cli")
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] in ("statemachine", name):
            raise  # a defect of ours, which an installation does not repair
        fail(f"{missing}; the command needs: {REMEDY}")
    command.main()


def judging_package() -> str | None:
    """The name by which the judging package is imported, if the one that lies beside this package is. A project has its
    own `model` or `model.py`, and a checkout may be used beside an installed wheel, so the name alone does not decide.
    """
    for name in NAMES:
        found = find_spec(name)
        origin = "" if found is None else found.origin or ""
        if Path(origin).resolve() == BESIDE / name / "__init__.py":
            return name
    return None


def fail(message: str) -> NoReturn:
    """One line on stderr, and out."""
    print(f"statemachine: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
