"""What goes wrong between a client and the worker that has its session."""

from __future__ import annotations

__all__ = ["HostMissing", "HostingMissing", "RemoteError"]


class HostingMissing(Exception):
    """What hosts and clients need is not installed."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.problem}; install it with `pip install 'agent-statemachine[hosts]'`"


class HostMissing(Exception):
    """No worker took the session within the client's patience. A request with a key is carried out by the next worker
    that does; repeat it with the same key to get its answer.
    """

    def __init__(self, session: str, seconds: float) -> None:
        super().__init__(session, seconds)
        self.session, self.seconds = session, seconds

    def __str__(self) -> str:
        return (
            f"no worker took session {self.session!r:.100} within {self.seconds:g} s; start `statemachine host`, or "
            "give the workers more capacity"
        )


class RemoteError(Exception):
    """The worker refused a call with an error that this version does not know, or failed while it carried it out.
    `name` is the class of the error there.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text)
        self.name, self.text = name, text

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"
