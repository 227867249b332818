"""The errors of running Spin."""

from __future__ import annotations


class SpinMissing(Exception):
    """Spin, or a compiler for what it writes, is not installed; the message says what to install."""

    def __init__(self, tool: str) -> None:
        super().__init__(f"there is no {tool} on the path; install it (apt-get install spin gcc), and run this again")
        self.tool = tool


class SpinFailed(Exception):
    """Spin, the compiler or the verifier did not do what it was asked; the message has what it printed last."""

    def __init__(self, command: str, printed: str) -> None:
        said = [line for line in printed.splitlines() if line.strip()] or ["it failed without a word"]
        super().__init__(f"{command}: {' / '.join(said[-3:])}")
        self.command, self.printed = command, printed
