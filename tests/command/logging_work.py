"""Work whose texts reach stderr and stdout in every way that a process has."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import traceback
import warnings

from statemachine import Turn

EVIL = "\x1b]0;owned\x07\x9b2J\u202e\ufe0f"
OWN = "\x1b[32mof the user\x1b[0m"

to_stdout = logging.getLogger("to_stdout")
to_stdout.addHandler(logging.StreamHandler(sys.stdout))
to_stdout.propagate = False


class Finalized:
    """Raises where no code can catch it."""

    def __del__(self) -> None:
        raise ValueError(f"finalizer {EVIL}")


async def fail() -> None:
    raise ValueError(f"asyncio {EVIL}")


def fail_in_a_thread() -> None:
    raise ValueError(f"thread {EVIL}")


kept: list[Finalized] = []
"""Until the process ends."""


async def work(turn: Turn) -> str:
    task = asyncio.ensure_future(fail())
    await asyncio.sleep(0.01)
    del task
    gc.collect()
    warnings.warn(f"warning {EVIL}", stacklevel=1)
    logging.getLogger("tool").warning("logger %s", EVIL)
    for logger in (logging.getLogger("tool"), to_stdout):
        try:
            raise ValueError(f"logged {EVIL}")
        except ValueError:
            logger.exception("with %s", EVIL)
    to_stdout.warning("args %s and %s", EVIL)  # type: ignore[call-arg, unused-ignore]  # one too few
    try:
        raise ValueError(f"printed {EVIL}")
    except ValueError:
        traceback.print_exc()
    thread = threading.Thread(target=fail_in_a_thread)
    thread.start()
    thread.join()
    Finalized()
    kept.append(Finalized())
    assert not sys.stderr.isatty()
    print(OWN, flush=True)
    raise KeyError(f"turn {EVIL}")
