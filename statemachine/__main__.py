"""Runs the command `statemachine`, also as `python -m statemachine`, from the package that judges this one.

Nothing in `statemachine` imports `model`, and neither does this module. It looks up the command when a person asks for
it, as a shell looks up a program. No other module imports this one, it uses nothing but the `main` that it finds, and
without that the product works as before. So this is not an import between rooms.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from statemachine import interrupts

BESIDE = Path(__file__).resolve().parents[1]
NAMES = ("statemachine_model", "model")
"""The import names of the judging package: in a wheel, and in a checkout."""
REMEDY = "pip install 'agent-statemachine[check]'"


def main() -> None:
    """Runs the command. Exits with code 2 and one line on stderr if what it needs is not installed, and with 130 if it
    is interrupted while that is imported, which takes a second or two.
    """
    interrupts.begin_quiet()
    name = judging_package()
    if name is None:
        what = f"{' or '.join(NAMES)} cannot be imported from {BESIDE}: it is not there, or another one comes first"
        fail(f"{what}; the command needs: {REMEDY}")
    try:
        command = import_module(f"{name}.command.cli")
        interrupts.end_quiet()
        command.main()
    except KeyboardInterrupt:
        fail("interrupted", interrupts.INTERRUPTED)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] in ("statemachine", name):
            raise  # a defect of ours, which installing does not repair
        fail(f"{missing}; the command needs: {REMEDY}")


def judging_package() -> str | None:
    """Returns the import name of the judging package beside this one; None if another or none would be imported. A
    project may have its own `model` or `model.py`, and a checkout may be used beside an installed wheel, so the name
    alone does not decide.
    """
    for name in NAMES:
        found = find_spec(name)
        origin = "" if found is None else found.origin or ""
        if Path(origin).resolve() == BESIDE / name / "__init__.py":
            return name
    return None


def fail(message: str, code: int = 2) -> NoReturn:
    """Prints one line to stderr and exits with this code."""
    print(f"statemachine: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
