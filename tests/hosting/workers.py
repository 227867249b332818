"""Workers that are processes of their own, to be killed, stopped and drained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from model.crashes.fleet import WorkerProcess


@contextmanager
def workers(dsn: str, number: int, *options: str) -> Iterator[list[WorkerProcess]]:
    """Some workers, which are killed afterwards."""
    options = ("--config", "tests.hosting.work:CONFIG", "--grace", "0.5", *options)
    found: list[WorkerProcess] = []
    try:
        found.extend(WorkerProcess(dsn, "tests.hosting.work:work", *options) for _ in range(number))
        yield found
    finally:
        for each in found:
            each.kill()
