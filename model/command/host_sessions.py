"""Runs `statemachine host`: one worker, until it is told to end."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import click

from statemachine import SessionConfig, hosting
from statemachine.sinks import VisibleRecord

from ..printing import say


def named(text: str) -> Any:
    """Returns what `module:name` names; the module is looked for in the present folder too. Raises `UsageError`."""
    module, _, name = text.partition(":")
    if not module or not name:
        raise click.UsageError(f"{text!r:.100} is not module:name, as in agents.work:work")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module may raise anything
        what = "" if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: "
        raise click.UsageError(f"{text!r:.100} cannot be imported: {what}{error}") from error
    return found


@contextmanager
def visible_logs() -> Iterator[None]:
    """Escapes what any logger says: to the end of the process, unless it is not a host after all."""
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(VisibleRecord)
    try:
        yield
    except click.UsageError:
        logging.setLogRecordFactory(before)
        raise


@visible_logs()
def host(place: str, work: str, config: str | None, **options: Any) -> None:
    """Runs a worker. The first SIGTERM or Ctrl-C drains it, the second ends it at once.

    Its process is that of the users' code, and texts of agents and of clients get into its logs by every logger, so
    all of them are escaped. What the code itself prints to stdout is left as it is.
    """
    found, limits = named(work), None if config is None else named(config)
    if config is not None and not isinstance(limits, SessionConfig):
        raise click.UsageError(f"{config!r:.100} is not a SessionConfig")

    async def run() -> None:
        try:
            made = hosting.SessionHost(place, found, limits, **options)
        except (TypeError, ValueError) as error:  # what cannot be work, or numbers that do not go together
            raise click.UsageError(str(error)) from error
        async with made as worker:
            say(f"serving at {worker.where}")
            sys.stdout.flush()
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    break
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            say("draining: sessions are handed over")
            sys.stdout.flush()

    anyio.run(run)
