"""The environment of the peers, `.venv-peers`: built when it is missing or its pins have changed, and run in.

`python -m bench.peers.environment` builds it and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
HOME = ROOT / ".venv-peers"
STAMP = HOME / ".installed"  # the pins that are installed, and for which Python
PYTHON = HOME / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

BUILD_SECONDS_MAX = 900
RUN_SECONDS_MAX = 180

# Peers are measured as they are without tracing, and must not talk to anybody.
SILENT = {
    "AUTOGEN_DISABLE_RUNTIME_TRACING": "true",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "OTEL_SDK_DISABLED": "true",
}
DROPPED = ("AUTOGEN_", "DBOS", "LANGCHAIN_", "LANGGRAPH_", "LANGSMITH_", "OTEL_", "PYTHON", "VIRTUAL_ENV")


class PeersUnavailable(Exception):
    """A peer cannot be measured; the message says why."""


def build() -> None:
    """Makes the environment what the pins say, which takes about a minute when there is nothing yet.

    Raises PeersUnavailable, for example when no package can be fetched.
    """
    wanted = f"# python {sys.version_info[0]}.{sys.version_info[1]}\n{REQUIREMENTS.read_text('utf-8')}"
    if PYTHON.exists() and STAMP.is_file() and STAMP.read_text("utf-8") == wanted:
        STAMP.touch()  # for make, which compares times
        return
    print(f"building {HOME.name} (once, takes about a minute)", file=sys.stderr)
    STAMP.unlink(missing_ok=True)
    # --clear: what an older Python or older pins left behind is no part of it.
    _run([sys.executable, "-m", "venv", "--clear", str(HOME)], BUILD_SECONDS_MAX)
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--retries", "2"]
    _run([*pip, "-r", str(REQUIREMENTS)], BUILD_SECONDS_MAX)
    STAMP.write_text(wanted, "utf-8")


def run(script: str, *arguments: str) -> dict[str, Any]:
    """What a script of this package prints as JSON, run in the environment and in a directory that is then removed.

    Raises PeersUnavailable if it fails.
    """
    with TemporaryDirectory(prefix="peer-") as directory:
        command = [str(PYTHON), "-m", f"bench.peers.{script}", *arguments]
        printed = _run(command, RUN_SECONDS_MAX, directory, run_environment(os.environ, directory))
    try:
        figure: dict[str, Any] = json.loads(printed.splitlines()[-1])
    except (IndexError, ValueError) as wrong:
        raise PeersUnavailable(f"{script} printed no figure") from wrong
    return figure


def run_environment(outside: Mapping[str, str], directory: str) -> dict[str, str]:
    """The environment variables of a script: no settings of the peers but `SILENT`, and nothing to find at home."""
    kept = {name: value for name, value in outside.items() if not name.startswith(DROPPED)}
    return {**kept, **SILENT, "HOME": directory, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def _run(
    command: list[str], seconds_max: float, directory: str | None = None, variables: Mapping[str, str] | None = None
) -> str:
    """What the command, `python -m ...`, prints on standard output."""
    name = f"python -m {command[2]}"
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds_max,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise PeersUnavailable(f"{name} took longer than {seconds_max:g} s") from late
    except OSError as failed:
        raise PeersUnavailable(f"{name}: {failed}") from failed
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise PeersUnavailable(f"{name} exited with {done.returncode}: {last[0]}")
    return done.stdout


if __name__ == "__main__":
    try:
        build()
    except PeersUnavailable as unavailable:
        sys.exit(f"{HOME.name} cannot be built: {unavailable}")
