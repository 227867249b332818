"""Judges one mutant in a process of its own: which check notices it first?

The process reads the mutated text in place of the module's file, before it imports anything of the product; whatever
uses the module uses the mutant. Then checks of `make evidence` look, the quickest first: what `make check` runs, and
the complete alphabet in two scopes. All of that `make evidence` has, too, and more; so what is caught here is caught
there. What none of them notices goes to the tests of the rooms that are mutated, for information.
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
from ..check import judge_tables
from ..checkout import REPOSITORY
from ..engines import ENGINES, Engine
from ..exploration.explorer import explore
from ..exploration.golden_counts import unexpected
from ..exploration.scopes import SCOPES, Scope, find
from ..pools import stop_is_asked
from .drawing import Mutant

CHECK_SECONDS_MAX = 300
"""A check that takes so long has noticed that something does not end. Without a mutant, the longest takes a third."""
MEMORY_MAX = 6 << 30
"""Bytes that the process of a mutant may take."""
HEAVY = 20
"""Scopes of this weight take longer than an engine."""
PROBED = ("reject", "spare")
"""Scopes in which the complete alphabet is tried; in all of them that takes a quarter of an hour."""
TESTS = (
    "tests/core",
    "tests/log",
    "tests/checking",
    "tests/scenarios",
    "tests/runtime/test_runtime_times.py",
    "tests/stores/test_older_files.py",
)
"""The tests of what is mutated."""
IMPORT = "import"
"""What noticed a mutant with which nothing can be imported, or whose process ends."""
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

    id: str
    by: str
    """The check that noticed it first: `exploration: pair`. Empty: none did."""
    tests: bool
    """Do tests notice what no check did?"""
    seconds: float

    @property
    def engine(self) -> str:
        """What noticed it, without the place where it looked."""
        return self.by.partition(":")[0]


def judge(mutant: Mutant) -> Verdict | None:
    """Judges a mutant in a new process, and waits for it. None: the pool was asked to stop meanwhile."""
    began = time.perf_counter()
    with TemporaryDirectory() as folder:
        text, told = Path(folder, "mutant.py"), Path(folder, "told")
        text.write_text(mutant.source, encoding="utf-8")
        with told.open("wb") as out:
            process = subprocess.Popen(
                [*planted(mutant.module, text), __name__, mutant.module, str(text)],
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=REPOSITORY,
                env=environment(),
                start_new_session=True,
            )
            try:
                if not is_waited_for(process):
                    return None
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        by, tests = said_by(told.read_text("utf-8", "replace"))
    return Verdict(mutant.id, by, tests, time.perf_counter() - began)


def planted(module: str, text: Path | str) -> list[str]:
    """Returns a command that runs a module, whose name and arguments follow, with this text for the other one."""
    return [sys.executable, "-c", PLANTED, module, str(text)]


def environment() -> dict[str, str]:
    """Returns the environment of the process: this one's, with its path, so that it finds the same packages."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def is_waited_for(process: subprocess.Popen[bytes]) -> bool:
    """Waits until the process has ended. False: the pool was asked to stop before."""
    while process.poll() is None:
        if stop_is_asked():
            return False
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
    return True


def said_by(text: str) -> tuple[str, bool]:
    """Returns which check noticed, and whether tests did, from the last line of the process. One that does not say it
    has failed on the mutant.
    """
    try:
        said = json.loads(text.splitlines()[-1])
        return str(said["by"]), bool(said["tests"])
    except (IndexError, ValueError, KeyError, TypeError):
        return IMPORT, False


# In the process of the mutant

Check = tuple[str, Callable[[], bool]]
"""What it is called, and what tells whether it notices something."""


def checks(module: str) -> Iterator[Check]:
    """Yields the checks of the evidence, the quickest first. What looks at the log comes first for a mutant of it."""
    scopes = [
        (scope, (f"exploration: {scope.name}", partial(broken, scope, scope.probed)))
        for scope in sorted(SCOPES, key=lambda scope: scope.weight)
    ]
    engines = [(engine.name, partial(fails, engine)) for engine in reversed(ENGINES) if engine.lacks() is None]
    yield "tables", lambda: bool(judge_tables()[1])
    yield from (check for check in engines if module.startswith(f"statemachine.{check[0]}."))
    yield from (check for scope, check in scopes if scope.weight < HEAVY)
    yield FUZZ, lambda: look(FUZZ) is not None
    yield from engines
    yield from (check for scope, check in scopes if scope.weight >= HEAVY)
    for name in PROBED:
        yield f"complete alphabet: {name}", partial(broken, find(name), True)


def broken(scope: Scope, probes: bool) -> bool:
    """Explores a scope. One that is not closed, or has other counts, is broken too."""
    found = explore(scope, probes=probes)
    return found.fault is not None or not found.closed or bool(unexpected(found))


def fails(engine: Engine) -> bool:
    """Runs the quick part of an engine."""
    return not all(verdict.holds for verdict in engine.run(quick=True, progress=lambda _: None))


def tests_fail(module: str, text: str) -> bool:
    """Runs the tests, in yet another process: pytest does not want what it rewrites to be imported before."""
    options = ["-q", "-x", "-p", "no:cacheprovider", *TESTS]
    return subprocess.run([*planted(module, text), "pytest", *options], cwd=REPOSITORY, check=False).returncode != 0


def first_to_notice(module: str) -> str:
    """Returns the first check that notices, or nothing. One that a mutant makes fail, or not end, has noticed it."""
    signal.signal(signal.SIGALRM, too_long)
    for name, notices in checks(module):
        signal.alarm(CHECK_SECONDS_MAX)
        try:
            if notices():
                return name
        except TooLong:
            return f"{name}, which does not end"
        except Exception:  # of the mutant, or of a tool that works on it
            return name
        finally:
            signal.alarm(0)
    return ""


class TooLong(Exception):
    """A check does not end."""


def too_long(_: int, __: FrameType | None) -> NoReturn:
    """Ends a check."""
    raise TooLong


def main(module: str, text: str) -> None:
    """Judges, and says so in the last line."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    by = first_to_notice(module)
    tests = not by and tests_fail(module, text)
    print(f"\n{json.dumps({'by': by, 'tests': tests})}")


if __name__ == "__main__":
    main(*sys.argv[1:])
