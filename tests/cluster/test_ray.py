"""Exploration and campaigns on Ray: one node in `make test`, two nodes nightly."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from model.cluster import code, exploring, ray_adapter
from model.cluster.errors import ClusterFailed, CodeDiffers, Lost
from model.cluster.ray_adapter import Cluster
from model.exploration import explorer
from model.exploration.explorer import Progress
from model.exploration.golden_counts import GOLDEN, Counts
from model.exploration.scopes import Scope, find
from model.pools import Task, campaign
from model.simulation import campaign as simulation
from statemachine.core import rules
from tests.cluster import broken
from tests.cluster.test_exploring import facts

REPOSITORY = Path(__file__).parents[2]
STATEMACHINE = [sys.executable, "-m", "statemachine"]

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray has no wheel for this Python, see pyproject.toml")


@pytest.fixture
def short() -> Iterator[Path]:
    """A temporary folder with a short name, which is to be empty in the end: sockets are in there."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    yield folder
    left = sorted(path.name for path in folder.iterdir())
    shutil.rmtree(folder)
    assert left == []


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Nothing may be left in the temporary folder, nor in the home folder."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**plain, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(folder), "HOME": str(folder), **more}


def processes_of(folder: Path) -> list[str]:
    """The processes of a cluster that has its files in this folder."""
    listed = subprocess.run(["ps", "-eww", "-o", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line]


# One node


@needs_ray
def test_explore_on_a_cluster_of_its_own_counts_as_one_process_and_leaves_nothing(short: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [*STATEMACHINE, "explore", "recall", "--json", "--ray"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(short),
        cwd=tmp_path,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (scope,) = json.loads(done.stdout)
    counts = Counts(*(scope[name] for name in ("states", "events", "transitions", "depth")))
    assert (counts, scope["closed"]) == (GOLDEN["recall"], True)
    assert processes_of(short) == []
    assert list(tmp_path.iterdir()) == []


# Without one


def test_command_without_ray_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError(\"No module named 'ray'\", name='ray')\n", "utf-8")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    for words in ("explore pair --ray", "crash --ray host:6379"):
        done = subprocess.run(
            [*STATEMACHINE, *words.split()],
            capture_output=True,
            text=True,
            check=False,
            env=environment(tmp_path, PYTHONPATH=path),
            cwd=tmp_path,
        )
        said = "statemachine: Ray is not installed; --ray needs: pip install 'agent-statemachine[ray]'\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", said), words


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("pair", "'pair' is not the address of a Ray cluster: HOST:PORT, or auto"),
        ("ray://127.0.0.1:10001", "is not the address of a Ray cluster"),
        ("127.0.0.1:1", "nothing answers at 127.0.0.1:1 "),
        ("127.0.0.1:99999", "nothing answers at 127.0.0.1:99999 "),
    ],
)
def test_address_at_which_there_is_no_cluster_is_an_error_at_once(address: str, said: str) -> None:
    with pytest.raises(ClusterFailed, match=said.replace("(", r"\(")):
        ray_adapter.reach(address)


def test_process_with_other_code_is_refused() -> None:
    code.require(code.code())
    with pytest.raises(CodeDiffers, match="has another version of this package; install the same one"):
        code.require("other")


# Two nodes


class Nodes:
    """Two nodes on this machine, with a processor each."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.second = cluster.add_node(num_cpus=1)

    def kill_second(self) -> None:
        """Kills all processes of the second node."""
        self.cluster.remove_node(self.second, allow_graceful=False)

    def restore(self) -> None:
        """Brings a second node, if there is none."""
        if self.second not in self.cluster.worker_nodes:
            self.second = self.cluster.add_node(num_cpus=1)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
    ray_adapter.with_token()
    ray_adapter.load()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        Path(folder, "ray").mkdir()
        cluster = import_module("ray.cluster_utils").Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        try:
            yield Nodes(cluster)
        finally:
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def joined(nodes: Nodes, capfd: pytest.CaptureFixture[str]) -> Iterator[Cluster]:
    """The cluster. Ray prints nothing."""
    nodes.restore()
    with ray_adapter.cluster(nodes.cluster.address, None) as found:
        assert found.jobs == 2
        yield found
    assert capfd.readouterr() == ("", "")


@needs_ray
@pytest.mark.nightly
@pytest.mark.parametrize("name", GOLDEN)
def test_every_scope_has_the_numbers_of_one_process(name: str, joined: Cluster) -> None:
    found = exploring.explore(find(name), joined.hire)
    assert Counts(found.states, found.offered, found.transitions, found.depth) == GOLDEN[name]
    assert facts(found) == facts(explorer.explore(find(name)))


@needs_ray
@pytest.mark.nightly
def test_break_is_found_with_the_shortest_trace(joined: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    spread = exploring.explore(find("pair"), lambda _, scope: joined.hire(broken.BrokenPartition, scope))
    monkeypatch.setattr(rules, "goes_on", broken.never)
    alone = explorer.explore(find("pair"))
    assert alone.fault is not None
    assert (spread.fault, spread.path, len(spread.path)) == (alone.fault, alone.path, 5)


@needs_ray
@pytest.mark.nightly
def test_node_that_dies_costs_nothing_of_the_verdict(nodes: Nodes, joined: Cluster) -> None:
    losses: list[Lost] = []

    def show(progress: Progress) -> None:
        if progress.depth == 6 and not losses and nodes.second in nodes.cluster.worker_nodes:
            nodes.kill_second()

    found = exploring.explore(find("pair"), joined.hire, on_progress=show, on_loss=losses.append)
    assert len(losses) == 1
    assert facts(found) == facts(explorer.explore(find("pair")))


@needs_ray
@pytest.mark.nightly
def test_process_that_dies_costs_nothing_of_the_verdict(joined: Cluster) -> None:
    losses: list[Lost] = []
    hired: list[ray_adapter.Hired] = []

    def hire(_: object, scope: Scope) -> ray_adapter.Hired:
        hired.append(joined.hire(broken.MortalPartition, scope))
        return hired[-1]

    def show(progress: Progress) -> None:
        if progress.depth == 6 and not losses:
            hired[0].call(1, "die")

    found = exploring.explore(find("recall"), hire, on_progress=show, on_loss=losses.append)
    assert (len(losses), len(hired)) == (1, 2)
    assert facts(found) == facts(explorer.explore(find("recall")))


# Campaigns


@needs_ray
@pytest.mark.nightly
def test_seeds_find_what_they_find_in_one_process(joined: Cluster, tmp_path: Path) -> None:
    spread = simulation.campaign(100, 1, joined.jobs, folder=tmp_path, hire=joined.pool(tmp_path))
    assert spread.as_json() == simulation.campaign(100, 1, 1, folder=tmp_path).as_json()
    assert spread.seeds == 100


@needs_ray
@pytest.mark.nightly
def test_failures_come_with_their_seeds_and_files(joined: Cluster, tmp_path: Path) -> None:
    there, here, found = tmp_path / "there", tmp_path / "here", list[simulation.Campaign]()
    task = Task(broken.play_broken, (range(1, 21), there))
    campaign(2, lambda number: None if number else task, found.append, hire=joined.pool(there))
    alone = broken.play_broken(range(1, 21), here)
    assert alone.failures
    assert [f.seed for f in found[0].failures] == [f.seed for f in alone.failures]
    for one, other in zip(found[0].failures, alone.failures, strict=True):
        assert one.blames == other.blames
        assert [path.parent for path in one.traces] == [there] * len(other.traces)
        assert [path.read_bytes() for path in one.traces] == [path.read_bytes() for path in other.traces]


@needs_ray
@pytest.mark.nightly
def test_node_that_dies_in_a_campaign_costs_its_share_alone(nodes: Nodes, joined: Cluster, tmp_path: Path) -> None:
    def show(_: simulation.Campaign) -> None:
        if nodes.second in nodes.cluster.worker_nodes:
            nodes.kill_second()

    spread = simulation.campaign(200, 1, joined.jobs, show, tmp_path, joined.pool(tmp_path))
    assert spread.as_json() == simulation.campaign(200, 1, 1, folder=tmp_path).as_json()


@needs_ray
@pytest.mark.nightly
def test_task_whose_process_dies_is_done_again(joined: Cluster, tmp_path: Path) -> None:
    found: list[simulation.Campaign] = []
    once = tmp_path / "once"
    task = Task(broken.play_with_a_crash, (range(1, 11), tmp_path / "failures", once))
    campaign(1, lambda number: None if number else task, found.append, hire=joined.pool(tmp_path / "failures"))
    assert once.exists()
    assert found[0].as_json() == simulation.play(range(1, 11), tmp_path).as_json()


@needs_ray
@pytest.mark.nightly
def test_task_that_kills_every_process_is_an_error_and_not_a_verdict(joined: Cluster, tmp_path: Path) -> None:
    deadly = Task(broken.die, ())
    with pytest.raises(ClusterFailed, match="a task has no verdict, since it was lost with its machine 4 times"):
        campaign(1, lambda number: None if number else deadly, print, hire=joined.pool(tmp_path))


@needs_ray
@pytest.mark.nightly
def test_what_a_task_raises_is_raised_here(joined: Cluster, tmp_path: Path) -> None:
    bad = Task(int, ("seven",))
    with pytest.raises(ValueError, match="invalid literal for int"):
        campaign(1, lambda number: None if number else bad, print, hire=joined.pool(tmp_path))


@needs_ray
@pytest.mark.nightly
def test_cluster_without_a_free_processor_is_an_error(joined: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_adapter, "PATIENCE_S", 3.0)
    monkeypatch.setattr(Cluster, "jobs", 3)
    with pytest.raises(ClusterFailed, match=r"did not have 3 processors free within 3 s; use fewer with --jobs"):
        exploring.explore(find("recall"), joined.hire)


# Ctrl-C


PROGRAMS = {
    "fuzz": """
with cluster("", 2) as found:
    folder = Path("failures")
    done = fuzz.soak(1e6, 2, 7, lambda so_far: print(so_far.rounds, flush=True), folder, 10, 40, found.pool(folder))
    print(done.interrupted)
""",
    "simulate": """
with cluster("", 2) as found:
    folder = Path("failures")
    show = lambda so_far: print(so_far.seeds, flush=True)
    print(campaign.campaign(10**6, 1, 2, show, folder, found.pool(folder)).interrupted)
""",
    "crash": """
with cluster("", 2) as found:
    folder = Path("failures")
    show = lambda so_far: print(so_far.kills, flush=True)
    print(bool(kills.crash_together(10**6, 1, folder, show, 2, found.pool(folder)).interrupts))
""",
    "explore": """
try:
    with cluster("", 2) as found:
        show = lambda so_far: print(so_far.states, flush=True)
        exploring.explore(find("trio-everything"), found.hire, None, show)
except KeyboardInterrupt:
    print(True)
""",
}
BEFORE = """
from pathlib import Path
from model.cluster import exploring
from model.cluster.ray_adapter import cluster
from model.crashes import kills
from model.exploration.scopes import find
from model.fuzzing import fuzz
from model.simulation import campaign
"""


@needs_ray
@pytest.mark.nightly
@pytest.mark.parametrize("name", PROGRAMS)
def test_ctrl_c_ends_work_on_a_cluster_without_noise_and_leaves_nothing(name: str, short: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(BEFORE + PROGRAMS[name], "utf-8")
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")],
        cwd=tmp_path,
        env=environment(short),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline().strip()
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err, first.isdigit(), out.splitlines()[-1:]) == (0, "", True, ["True"])
    assert processes_of(short) == []
    assert {path.name for path in tmp_path.iterdir()} - {".hypothesis"} == {"program.py"}


@needs_ray
@pytest.mark.nightly
def test_command_that_is_interrupted_while_ray_starts_leaves_nothing(short: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [*STATEMACHINE, "explore", "pair", "--ray"],
        cwd=tmp_path,
        env=environment(short),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not processes_of(short):
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err.strip()) == (130, "", "statemachine: interrupted")
    assert processes_of(short) == []
