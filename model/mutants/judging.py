"""Judges one mutant in a process of its own: which check notices it first?

The process reads the mutated text in place of the module's file, before it imports anything of the product; whatever
uses the module uses the mutant. Then the checks of `make evidence` look, those first that need the least time: tables,
every default scope in lockstep, fuzz, the quick part of each engine. If none of them notices, the tests of the rooms
that are mutated do, or do not. So what is said of a mutant is either *caught by the evidence*, or *caught by tests
alone*, or that it survives.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import NoReturn

from attrs import frozen

from ..breaks.hunt import FUZZ, look
from ..check import Interrupted, judge_tables
from ..checkout import REPOSITORY
from ..engines import ENGINES, Engine
from ..exploration.scopes import SCOPES
from ..pools import stop_is_asked
from .drawing import Mutant

CHECK_SECONDS_MAX = 300
"""A check that takes so long has noticed that something does not end. Without a mutant, the longest takes a tenth."""
MEMORY_MAX = 6 << 30
"""Bytes that the process of a mutant may take."""
TESTS = ("tests/core", "tests/log", "tests/checking", "tests/scenarios")
"""The tests of what is mutated."""
PLANTED = """
import importlib.machinery, runpy, sys
name, text, main, *sys.argv[1:] = sys.argv[1:]
class Planted(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname):
        with open(text, encoding="utf-8") as file:
            return compile(file.read(), self.path, "exec", dont_inherit=True)
class Finder:
    @staticmethod
    def find_spec(fullname, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(fullname, path) if fullname == name else None
        if spec is not None:
            spec.loader = Planted(fullname, spec.origin)
        return spec
sys.meta_path.insert(0, Finder)
runpy.run_module(main, run_name="__main__")
"""
"""Runs a module as a program, with another text for the module of this name."""


@frozen
class Verdict:
    """What became of one mutant."""

    mutant: Mutant
    by: str
    """The check that noticed it first; empty: none did."""
    seconds: float

    @property
    def is_caught_by_evidence(self) -> bool:
        return self.by not in ("", "tests")


def judge(mutant: Mutant) -> Verdict:
    """Judges a mutant in a new process, and waits for it. Ends it if the pool is asked to stop."""
    began = time.perf_counter()
    with TemporaryDirectory() as folder:
        text, told = Path(folder, "mutant.py"), Path(folder, "told")
        text.write_text(mutant.source, encoding="utf-8")
        command = [*planted(mutant.module, text), __name__, mutant.module, str(text)]
        with told.open("wb") as out:
            process = subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=REPOSITORY,
                env=environment(),
            )
            try:
                wait_for(process)
            finally:
                process.kill()
                process.wait()
        by = said_by(told.read_text("utf-8", "replace"))
    return Verdict(mutant, by, time.perf_counter() - began)


def planted(module: str, text: Path | str) -> list[str]:
    """Returns a command that runs a module, whose name and arguments follow, with this text for the other one."""
    return [sys.executable, "-c", PLANTED, module, str(text)]


def environment() -> dict[str, str]:
    """Returns the environment of the process: this one's, with its path, so that it finds the same packages."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def wait_for(process: subprocess.Popen[bytes]) -> None:
    """Waits for the process. Raises `Interrupted` if the pool is asked to stop."""
    while process.poll() is None:
        if stop_is_asked():
            raise Interrupted
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.2)


def said_by(text: str) -> str:
    """Returns who noticed, from the last line of the process. One that failed to say it has failed on the mutant."""
    try:
        said = json.loads(text.splitlines()[-1])
        return str(said["by"])
    except (IndexError, ValueError, KeyError, TypeError):
        return "crash"


# In the process of the mutant


def checks(module: str, text: str) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Yields (name, what tells whether it notices something), the quickest first."""
    yield "tables", lambda: bool(judge_tables()[1])
    for scope in sorted(SCOPES, key=lambda scope: scope.weight):
        yield f"scope {scope.name}", partial(found_in, scope.name)
    yield FUZZ, partial(found_in, FUZZ)
    for engine in reversed(ENGINES):
        if engine.lacks() is None:
            yield engine.name, partial(fails, engine)
    yield "tests", partial(tests_fail, module, text)


def found_in(place: str) -> bool:
    """Looks in a scope, or in the fuzz campaigns."""
    return look(place) is not None


def fails(engine: Engine) -> bool:
    """Runs the quick part of an engine."""
    return not all(verdict.holds for verdict in engine.run(quick=True, progress=lambda _: None))


def tests_fail(module: str, text: str) -> bool:
    """Runs the tests, in yet another process: pytest does not want what it rewrites to be imported before."""
    options = ["-q", "-x", "-p", "no:cacheprovider", *TESTS]
    return subprocess.run([*planted(module, text), "pytest", *options], cwd=REPOSITORY, check=False).returncode != 0


def first_to_notice(module: str, text: str) -> str:
    """Returns the first check that notices, or nothing. One that a mutant makes fail, or not end, has noticed it."""
    signal.signal(signal.SIGALRM, too_long)
    for name, notices in checks(module, text):
        signal.alarm(CHECK_SECONDS_MAX)
        try:
            if notices():
                return name
        except Exception:  # of the mutant, or of a tool that works on it
            return name
        finally:
            signal.alarm(0)
    return ""


def too_long(_: int, __: FrameType | None) -> NoReturn:
    """Ends a check."""
    raise TimeoutError("it does not end")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    noticed_by = first_to_notice(*sys.argv[1:])
    print()
    print(json.dumps({"by": noticed_by}))
