"""The errors of work on a cluster."""

from __future__ import annotations

REMEDY = "pip install 'agent-statemachine[ray]'"


class RayMissing(Exception):
    """Ray is not installed; the message says what to install."""

    def __init__(self) -> None:
        super().__init__(f"Ray is not installed; --ray needs: {REMEDY}")


class ClusterFailed(Exception):
    """The cluster cannot be reached, or lost its processes too often. Nothing is known of what was to be judged."""


class CodeDiffers(ClusterFailed):
    """A machine of the cluster has other code than the one that asks: what it judges would be something else."""

    def __init__(self, machine: str) -> None:
        super().__init__(f"{machine} has another version of this package; install the same one on every machine")
        self.machine = machine


class Lost(Exception):
    """A process of the cluster, its machine, or something that it held is gone. Work that can be redone is redone."""
