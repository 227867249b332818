"""Runs Spin: from `agents.pml` to a verifier, and what a verifier finds.

Of the verifier's options: `-E` because a world may come to rest, which is not an error; `-DNOREDUCE` because a reduced
search has not all edges; no `-DBITSTATE`, which may take two states for one. A search that did not reach its end is an
error here, and not a smaller result.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from .errors import SpinFailed, SpinMissing
from .worlds import Small

MODEL = Path(__file__).with_name("agents.pml")
SPIN = "spin"
COMPILERS = ("gcc", "cc", "clang")
SECONDS_MAX = 900
"""The longest that one run of a tool may take."""
DEPTH_MAX = 2_000_000
"""Steps of the longest path that a verifier follows."""
EVERY_EDGE = ("-DNOREDUCE", "-DVECTORSZ=4096", "-DNFAIR=3", "-w")
NO_CYCLES = "-DSAFETY"


def missing() -> SpinMissing | None:
    """Returns what is missing, as an error; None if all is there."""
    if shutil.which(SPIN) is None:
        return SpinMissing(SPIN)
    if compiler() is None:
        return SpinMissing("C compiler")
    return None


def compiler() -> str | None:
    """Returns the first C compiler on the path."""
    return next(filter(None, map(shutil.which, COMPILERS)), None)


@frozen
class Search:
    """The result of one run of a verifier."""

    states: int
    transitions: int
    errors: int
    seconds: float

    @property
    def rate(self) -> int:
        """Transitions in a second."""
        return round(self.transitions / max(self.seconds, 0.01))


def build(world: Small, folder: Path, *flags: str, optimise: str = "-O0") -> Path:
    """Makes the verifier of a world in an empty folder. Raises `SpinMissing` or `SpinFailed`."""
    lacks = missing()
    if lacks is not None:
        raise lacks
    call([SPIN, *world.flags, *(f for f in flags if f in PARAMETERS), "-a", str(MODEL)], folder)
    made = [f for f in flags if f not in PARAMETERS]
    call([str(compiler()), optimise, *EVERY_EDGE, *made, "-o", "pan", "pan.c"], folder)
    return folder / "pan"


PARAMETERS = ("-DPRINT", "-DFAIR", "-DSPOIL=1", "-DSPOIL=2", "-DSPOIL=3")
"""The flags that are for `agents.pml`; others are for the compiler."""


def call(command: list[str], folder: Path) -> None:
    """Runs a tool in the folder. Raises `SpinFailed` if it fails."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=SECONDS_MAX, check=False, errors="replace"
    )
    if done.returncode:
        raise SpinFailed(Path(command[0]).name, done.stdout + done.stderr)


Edge = tuple[str, str, str]
"""State before, event, state after."""


def edges(verifier: Path) -> tuple[set[Edge], Search]:
    """Lets a verifier that was built with PRINT visit all states, and returns each step that it took."""
    found: set[Edge] = set()

    def keep(line: str) -> None:
        before, event, after = line[1:].split("|")
        found.add((before, event, after))

    return found, search(verifier, keep=keep)


def search(verifier: Path, claim: str | None = None, keep: Callable[[str], None] | None = None) -> Search:
    """Visits all states; with a claim, all fair runs that refute it, up to the first. Raises `SpinFailed` if the search
    was cut short.
    """
    options = ["-n", "-E", f"-m{DEPTH_MAX}", *([] if claim is None else ["-a", "-f", "-N", claim])]
    told: list[str] = []
    command = [f"./{verifier.name}", *options]
    with subprocess.Popen(
        command, cwd=verifier.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("@") and keep is not None:
                keep(line.rstrip("\n"))
            else:
                told.append(line)
    text = "".join(told)
    if "errors: " not in text or "search depth too small" in text or "out of memory" in text:
        raise SpinFailed("a verifier", f"its search was cut short: {complaint(text)}")
    return Search(
        states=number(r"([\d.e+]+) states, (?:stored|visited)", text),
        transitions=number(r"([\d.e+]+) transitions", text),
        errors=number(r"errors: (\d+)", text),
        seconds=float((re.search(r"elapsed time ([\d.e+-]+) seconds", text) or ["", "0"])[1]),
    )


def complaint(text: str) -> str:
    """The first line in which a verifier complains, or the first at all."""
    lines = text.strip().splitlines() or [""]
    return next((line for line in lines if "error:" in line or "out of memory" in line), lines[0])


def number(pattern: str, text: str) -> int:
    """Returns the number that the pattern finds."""
    found = re.search(pattern, text)
    return 0 if found is None else int(float(found[1]))
