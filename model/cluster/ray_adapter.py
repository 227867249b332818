"""Joins a Ray cluster, or starts one on this machine and stops it. The only module that imports Ray.

What Ray prints is kept out of the output, its statistics and its dashboard are off, and a cluster that is started here
listens on the loopback address, asks for a token that no other has, and leaves no file.

Ctrl-C: the processes of a cluster do not hear it (`deaf_to_interrupts`). The one that asks does, and ends the rest.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, TypeVar

from attrs import define, field

from ..pools import Hire, Pool, Task, deaf_to_interrupts, stops_when
from . import code
from .carried import Carried, carry
from .errors import ClusterFailed, Lost, RayMissing

T = TypeVar("T")

ADDRESS = re.compile(r"auto|[^\s:/]+:\d{1,5}")
JOBS_MAX = 64
"""Most processes of a cluster that are used, unless more are asked for: each of a level has something for each."""
PATIENCE_S = 60.0
"""A cluster that has no processor free for so long is taken by others."""
REACHED_S = 5.0
"""Longest wait for an address to answer at all."""
RETRIES = 3
"""How often a task is begun again whose machine died."""
ASKED_EVERY_S = 0.5
"""A task asks so often whether it is to end."""
ENDED_S = 60.0
"""A task that was asked to stop and goes on for so long is killed."""
FOLDER_MAX = 40
"""Characters of the folder of a cluster: it has sockets, whose names may have 107."""
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_NUM_REDIS_GET_RETRIES": "1", "RAY_worker_niceness": "0"}
"""Ray reads them from the environment. By the second, a join that does not succeed ends after a minute, not a dozen. By
the third, processes of a cluster that is started here do not come after all others: crashes are judged in real time.
"""
PRINTER = "print_to_stdstream"
"""The function of `ray._private.worker` that prints to stdout what the cluster tells of machines that died. It has no
switch."""


def load() -> Any:
    """Imports Ray, which reads its settings then. Raises `RayMissing`."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        ray = import_module("ray")
    except ModuleNotFoundError as missing:
        raise RayMissing from missing
    import_module("ray.exceptions")
    setattr(import_module("ray._private.worker"), PRINTER, lambda *_, **__: None)
    return ray


def with_token() -> None:
    """Has clusters that this process starts ask for a token, which lives as long as the process. Ray by itself would
    write one into the home folder. Settings that are there already are obeyed. To be called before `load`.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextmanager
def cluster(address: str, jobs: int | None) -> Iterator[Cluster]:
    """Gives the cluster at this address, HOST:PORT or `auto`, of which `jobs` processors are used; by default all, but
    `JOBS_MAX` at most. An empty address starts a cluster of `jobs` processes, by default 2, and stops it. Raises
    `RayMissing` or `ClusterFailed`.
    """
    if not address:
        with_token()
    ray = load()
    handles = current_thread() is main_thread()
    before = signal.getsignal(signal.SIGTERM)
    folder = None if address else new_folder()
    try:
        with deaf_to_interrupts():  # it starts processes and threads
            begin(ray, address, folder, jobs or 2)
        yield Cluster(ray, jobs or (JOBS_MAX if address else 2))
    finally:
        with deaf_to_interrupts():  # interrupted in the middle, it would leave processes behind
            ray.shutdown()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            if handles:
                signal.signal(signal.SIGTERM, before)  # Ray has put a handler of its own there


def new_folder() -> Path:
    """Makes a temporary folder with a short name."""
    inside = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="ray-", dir=inside if len(inside) < FOLDER_MAX else "/tmp"))


def begin(ray: Any, address: str, folder: Path | None, jobs: int) -> None:
    """Starts a cluster in this folder, or joins the one at the address. Raises `ClusterFailed`."""
    words: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "logging_level": logging.CRITICAL}
    if folder is not None:
        words |= {"address": "local", "num_cpus": jobs, "include_dashboard": False, "_temp_dir": str(folder)}
        words |= {"_node_ip_address": "127.0.0.1"}
    else:
        reach(address)
        words |= {"address": address}
    try:
        with silent_stderr() if address else nullcontext():  # where a join fails, Ray complains for pages
            ray.init(**words)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        what = f"cannot join the Ray cluster at {address}" if address else "cannot start a Ray cluster here"
        raise ClusterFailed(f"{what}: {error}") from error


def reach(address: str) -> None:
    """Raises `ClusterFailed` unless something listens at the address. Ray by itself would try for minutes."""
    if not ADDRESS.fullmatch(address):
        raise ClusterFailed(
            f"'{address}' is not the address of a Ray cluster: HOST:PORT, or auto for one of this machine"
        )
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), REACHED_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterFailed(f"nothing answers at {address} ({error}); start Ray there: ray start --head") from error


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Keeps out what is written to stderr, by code in other languages too."""
    sys.stderr.flush()
    before, void = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(void, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)
        os.close(void)


# In the processes of the cluster


class Hosted:
    """An object in a process of the cluster."""

    def __init__(self, expected: str, kind: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        code.require(expected)
        self._object = kind(*arguments)

    def ready(self) -> None:
        """Does nothing: the object is there."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Calls a method of the object."""
        return getattr(self._object, method)(*arguments)

    def spread(self, method: str, *arguments: Any) -> Any:
        """The same, of a method that returns something for several others. Ray takes one value as it is."""
        values = getattr(self._object, method)(*arguments)
        return values if len(values) > 1 else values[0]


class Flag:
    """Is set when running tasks are to end."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """Sets it."""
        self._is_set = True

    def is_set(self) -> bool:
        """Tells whether it is set."""
        return self._is_set


def run_task(expected: str, task: Task[Any], folder: Path, flag: Any) -> Carried[Any]:
    """Runs one task of a campaign."""
    code.require(expected)
    stops_when(Asked(flag).now)
    try:
        return carry(task, folder)
    finally:
        stops_when(None)


@define(eq=False)
class Asked:
    """Looks at the flag, not too often."""

    flag: Any
    answer: bool = False
    next_s: float = field(init=False, default=0.0)

    def now(self) -> bool:
        """Tells whether the task is to end. Where the flag is gone, so is what asked for the task."""
        ray = load()
        if not self.answer and time.monotonic() >= self.next_s:
            try:
                self.answer = ray.get(self.flag.is_set.remote())
            except ray.exceptions.RayError:
                self.answer = True
            self.next_s = time.monotonic() + ASKED_EVERY_S
        return self.answer


# In the process that asks


class Cluster:
    """A cluster that was joined."""

    def __init__(self, ray: Any, most: int) -> None:
        self._ray = ray
        self._most = most
        self._actors: list[Any] = []

    @property
    def jobs(self) -> int:
        """The number of processes to be used now; machines come and go."""
        nodes = [node["Resources"].get("CPU", 0) for node in self._ray.nodes() if node["Alive"]]
        return max(1, min(self._most, int(sum(nodes))))

    def get(self, references: Sequence[Any], timeout: float | None = None) -> list[Any]:
        """Returns what these refer to. Raises what the calls raised, or `Lost`."""
        try:
            found: list[Any] = self._ray.get([*references], timeout=timeout)
        except self._ray.exceptions.RayError as error:
            raise self.meaning(error) from error
        return found

    def meaning(self, error: BaseException) -> BaseException:
        """Returns what an error of Ray means here: what the code raised, or `Lost`."""
        cause = getattr(error, "cause", None)
        if isinstance(cause, Exception) and not isinstance(cause, self._ray.exceptions.RayError):
            return cause
        if isinstance(error, self._ray.exceptions.RayError):
            return Lost(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
        return error

    # Exploration

    def hire(self, kind: Callable[..., Any], *arguments: Any) -> Hired:
        """Gives objects of a class, each in a process of its own. Each is told its number, and how many there are.
        Those of the last call are ended. A machine that has died is only known as such after some seconds, so this is
        tried again. Raises `ClusterFailed`.
        """
        until = time.monotonic() + PATIENCE_S
        hosted = self._ray.remote(num_cpus=1, max_restarts=0, scheduling_strategy="SPREAD")(Hosted)
        while True:
            self.release()
            count = self.jobs
            self._actors = [hosted.remote(code.code(), kind, (*arguments, number, count)) for number in range(count)]
            try:
                self.get([actor.ready.remote() for actor in self._actors], max(0.0, until - time.monotonic()))
                return Hired(self, self._ray, self._actors)
            except Lost as lost:
                if time.monotonic() >= until:
                    what = f"the cluster did not have {count} processors free within {PATIENCE_S:.0f} s"
                    raise ClusterFailed(f"{what}; use fewer with --jobs ({lost})") from lost

    def release(self) -> None:
        """Ends what was hired."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []

    # Campaigns

    def pool(self, folder: Path) -> Hire:
        """Gives pools whose tasks write into this folder, wherever they run."""
        return partial(self._pool, folder)

    @contextmanager
    def _pool(self, folder: Path, jobs: int) -> Iterator[Pool]:
        del jobs  # a cluster has as many processes as it has
        here = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy(
            self._ray.get_runtime_context().get_node_id(), soft=False
        )
        flag = self._ray.remote(num_cpus=0, scheduling_strategy=here)(Flag).remote()
        tasks = Tasks(self, self._ray, folder, flag)
        try:
            yield tasks
        finally:
            with deaf_to_interrupts():
                tasks.end()
                self._ray.kill(flag)


@define(eq=False)
class Hired:
    """Objects of one class in processes of the cluster (`exploring.Actors`)."""

    cluster: Cluster
    ray: Any
    actors: list[Any]

    @property
    def count(self) -> int:
        return len(self.actors)

    def call(self, actor: int, method: str, *arguments: Any) -> Any:
        """Begins a call."""
        return self.actors[actor].call.remote(method, *arguments)

    def call_for_each(self, actor: int, method: str, *arguments: Any) -> list[Any]:
        """Begins a call that returns something for each."""
        made = self.actors[actor].spread.options(num_returns=self.count).remote(method, *arguments)
        return [made] if self.count == 1 else made

    def get(self, references: Sequence[Any]) -> list[Any]:
        """Returns what these refer to."""
        return self.cluster.get(references)

    def first(self, references: Sequence[Any]) -> Any:
        """Waits for one of these."""
        return self.ray.wait([*references], num_returns=1)[0][0]


@define(eq=False)
class Tasks:
    """A pool whose processes are those of the cluster. A task whose machine dies is begun again, `RETRIES` times."""

    cluster: Cluster
    ray: Any
    folder: Path
    flag: Any
    running: set[Any] = field(init=False, factory=set[Any])

    def submit(self, task: Task[T]) -> Future[T]:
        """Puts a task in line."""
        future: Future[T] = Future()
        options = {"num_cpus": 1, "max_retries": RETRIES, "scheduling_strategy": "SPREAD"}
        with deaf_to_interrupts():
            reference = self.ray.remote(**options)(run_task).remote(code.code(), task, self.folder, self.flag)
            self.running.add(reference)
            reference.future().add_done_callback(partial(self.settle, reference, future))
        return future

    def settle(self, reference: Any, future: Future[T], done: Future[Carried[T]]) -> None:
        """Tells the result of a task."""
        self.running.discard(reference)
        try:
            error = done.exception()
            if error is None:
                future.set_result(done.result().unpack(self.folder))
                return
        except Exception as raised:
            error = raised
        meant = self.cluster.meaning(error)
        if isinstance(meant, Lost):
            meant = ClusterFailed(
                f"a task has no verdict, since it was lost with its machine {RETRIES + 1} times: {meant}"
            )
        future.set_exception(meant)

    def ask_to_stop(self) -> None:
        """Asks running tasks to end soon."""
        self.flag.set.remote()

    def end(self) -> None:
        """Ends what still runs: a task whose submission was interrupted is one that no campaign waits for."""
        left = [*self.running]
        if left:
            self.ask_to_stop()
            _, left = self.ray.wait(left, num_returns=len(left), timeout=ENDED_S)
        for reference in left:
            self.ray.cancel(reference, force=True)
