"""Plays golden traces: scripts of events with the full log of their results, in specs/traces, for people to review.

    -- What the trace shows, and what to look at. Rules and bugs by id.

    config max_concurrent=2 max_resident=1

    -- Why this event.
    > spawn root a by host
      reply   Spawned /root/a, mail 0
      record  AgentSpawned /root/a, "settings of a"
      record  MailAccepted 0 host! to /root/a, "work"
      record  LoadBegun /root/a
      effect  Load /root/a generation 1, "settings of a"
        /root    new
      * /root/a  starting 1, loading, slot reserved, unread host!
      * session  open, slots 1/1, residency 1/1, ready -, idle -
      * time     0, due: load a 30

People write what begins at the left edge: comments, the configuration (`SessionConfig`), and events in the language of
`model/scenarios/script.py`. The indented lines are the log: the reply (none for an accepted report), records and
effects in their order, then the whole view (`statemachine/checking/view.py`) if it has changed, changed lines marked,
then the time with all deadlines if that has.

Playing a trace holds the core to more than the log: each step is compared with the reference model, every property is
checked, and all records so far must fold to the facts of the session.

`python -m model.scenarios.golden` shows how the logs on file differ from what the core does now, `--write` rewrites
them.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Any

from attrs import fields as attrs_of
from attrs import frozen

from statemachine.checking import properties
from statemachine.checking.view import lines, mail_name, name, why
from statemachine.core import effects as fx
from statemachine.core import records as rc
from statemachine.core.config import Notice, Overflow, SessionConfig, SlotPolicy
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Step
from statemachine.core.events import HOST
from statemachine.core.machines import Identity
from statemachine.core.records import Cause, MailAccepted, Outcome, Record, TurnStopped
from statemachine.core.refusals import InvalidConfig, Refusal
from statemachine.core.session import Session
from statemachine.log.recovery import durable_facts, fold

from .. import checkout, lockstep, reference
from ..lockstep import AnyEvent, Restart
from . import script

TRACES = checkout.REPOSITORY / "specs" / "traces"
FIELDS = tuple([field.name for field in attrs_of(SessionConfig)])
ENUMS = {"slot_policy": SlotPolicy, "overflow": Overflow, "notice": Notice}
REFERENCE_STEP: Any = reference.step


class BadTrace(ValueError):
    """The file is not a trace: the message begins with file and line, and says why."""

    def __init__(self, path: Path, number: int, why: object) -> None:
        super().__init__(f"{path.name}:{number}: {why}")


@frozen
class Scripted:
    """One event of a script: its line number, its words, and the comments before it."""

    number: int
    words: str
    comments: tuple[str, ...]


@frozen
class Trace:
    """The part of a file that people write. `end` are comments after the last event."""

    path: Path
    head: tuple[str, ...]
    config: SessionConfig
    configured: tuple[str, ...]
    events: tuple[Scripted, ...]
    end: tuple[str, ...]


# Reading


def read(path: Path) -> Trace:
    """Returns the script of a file, without its log. Raises `BadTrace`."""
    head: list[str] = []
    comments: list[str] = []
    configured: dict[int, str] = {}
    events: list[Scripted] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        words = line.strip()
        if line.startswith("--"):
            (comments if configured else head).append(words)
        elif line.split()[:1] == ["config"] and not line[0].isspace() and not events:
            configured[number] = words
        elif line.startswith("> ") and words.split("--")[0] != "> " and configured:
            events.append(Scripted(number, words.removeprefix("> "), tuple(comments)))
            comments = []
        elif words and (not line[0].isspace() or words.startswith(">")):
            raise BadTrace(
                path, number, f"'{words}' is not a comment (--), a config before the events, or an event (>)"
            )
    if not (head and configured and events):
        raise BadTrace(path, 1, "a trace has comments that say what it shows, then a line `config`, then events")
    config = configuration(configured, path)
    return Trace(path, tuple(head), config, tuple(configured.values()), tuple(events), tuple(comments))


def configuration(configured: dict[int, str], path: Path) -> SessionConfig:
    """Returns the configuration of these lines, by number, with words `field=value`: enums by name, numbers, `true`,
    `false`, `null`."""
    values: dict[str, Any] = {}
    for number, line in configured.items():
        for word in line.split()[1:]:
            field, equals, value = word.partition("=")
            if equals and field not in FIELDS:
                raise BadTrace(path, number, f"SessionConfig has no field '{field}'; it has {', '.join(FIELDS)}")
            try:
                values[field] = ENUMS[field][value] if field in ENUMS else json.loads(value)
            except (KeyError, ValueError):
                raise BadTrace(path, number, f"'{word}' is not a field=value of SessionConfig") from None
    try:
        return SessionConfig(**values)
    except InvalidConfig as error:
        raise BadTrace(path, max(configured), error) from None


# Playing


class Player:
    """Plays events on the core, and judges every step."""

    def __init__(self, config: SessionConfig) -> None:
        self.session, self.world = lockstep.start(config)
        self.log: list[Record] = []
        self.view = view(self.session)

    def play(self, event: AnyEvent) -> list[str]:
        """Plays one event and returns its log. Raises `Deviation`, `PropertyViolation` or `AssertionError`."""
        fork = self.session.fork()
        self.session, step = lockstep.core_step(self.session, event)
        self.log += step.records
        if lockstep.asks_reference(event, step):
            self.world, reply, effects = REFERENCE_STEP(self.world, lockstep.TRANSLATE[event.__class__](event))
            lockstep.compare_step(step, reply, effects)
        lockstep.compare_states(self.session, self.world)
        folded = fold(self.session.config, self.log)
        if durable_facts(folded) != durable_facts(self.session.ledger):
            raise AssertionError("the records so far fold to other facts than those of the session")
        properties.check(self.session)
        if not isinstance(event, Restart):
            properties.check_step(fork, event, step, self.session)
        before, self.view = self.view, view(self.session)
        return [*step_lines(self.session, step), *changes(before, self.view)]


def render(trace: Trace) -> str:
    """Returns the whole text of the file, with the log of what the core does now.

    Raises `BadTrace` for a line that is not an event; what `Player.play` raises gets a note with file and line.
    """
    player = Player(trace.config)
    text = [*trace.head, "", *trace.configured]
    for scripted in trace.events:
        try:
            event = script.parse(scripted.words, player.session)
        except script.BadScript as error:
            raise BadTrace(trace.path, scripted.number, error) from None
        try:
            log = player.play(event)
        except Exception as error:
            error.add_note(f"{trace.path.name}:{scripted.number}: > {scripted.words}")
            raise
        text += ["", *scripted.comments, f"> {scripted.words}", *[f"  {line}" for line in log]]
    return "".join(f"{line}\n" for line in (*text, *(("", *trace.end) if trace.end else ())))


def view(s: Session) -> list[str]:
    """Returns `statemachine.checking.view.lines`, and the time with all deadlines, first due first."""
    shown = lines(s)
    indent = len(shown[-1]) - len(shown[-1].removeprefix("session").lstrip())
    pending = sorted(s.deadlines.pending.items(), key=lambda item: item[1])
    due = [f"{bound.name.lower()} {bounded(s, bound, of)} {at:g}" for (bound, of), (at, _) in pending]
    return [*shown, f"{'time':{indent}}{s.now:g}, due: {', '.join(due) or '-'}"]


def bounded(s: Session, bound: Bound, of: int) -> str:
    """Returns what a deadline is about: an agent, or the wait of one."""
    return f"{of} of {name(s, s.waits.pending[of].agent)}" if bound is Bound.WAIT else name(s, of)


def changes(before: list[str], after: list[str]) -> Iterator[str]:
    """Yields the view after an event, changed lines marked. Alignment, which a new path may change, is ignored."""
    new = [""] * (len(after) - len(before))
    pairs = zip([*before[:-2], *new, *before[-2:]], after, strict=True)
    marked = [("  " if old.split() == line.split() else "* ") + line for old, line in pairs]
    *others, time = marked
    if any(line.startswith("*") for line in others):
        yield from others
    if time.startswith("*"):
        yield time


# Facts as lines


@frozen
class Words:
    """Names for what a session holds, for the lines of one step."""

    s: Session

    def agent(self, agent: int) -> str:
        """Returns `host`, or the path, with the id where another agent has or had it too; `#` and id for an agent that
        is forgotten or unknown.
        """
        found = self.s.agent(agent)
        if found is None or found.identity is Identity.FORGOTTEN:
            return "host" if agent == HOST else f"#{agent}"
        alike = [other.id for other in self.s.agents if other.path == found.path]
        return found.path if alike == [agent] else f"{found.path} #{agent}"

    def agents(self, agents: Iterable[int]) -> str:
        """Returns several names, or `-` for none."""
        return ", ".join(self.agent(agent) for agent in agents) or "-"

    def mail(self, mail: Iterable[MailAccepted]) -> str:
        """Returns mail as the view names it, with numbers."""
        return ", ".join(f"{m.mail} {mail_name(self.s, m)}" for m in mail) or "-"

    def outcome(self, o: Outcome) -> str:
        """Returns how a turn ended; and why, unless its code finished or failed."""
        because = "" if o.cause in (Cause.FINISHED, Cause.FAILED) else f" ({why(self.s, o.cause, o.by)})"
        return f"{self.agent(o.agent)} turn {o.turn} {o.status.name.lower()}{because}, {json.dumps(o.result)}"

    def status(self, a: fx.AgentStatus) -> str:
        """Returns a status as `status` and `list` reply it."""
        status = f"{self.agent(a.agent)} {a.status.name.lower()}" + (f" {a.turn}" if a.turn else "")
        facts = [status, "open" if a.open else "closed", "resident" if a.resident else "not resident"]
        return ", ".join([*facts, f"unread {a.unread}", *([] if a.outcome is None else [self.outcome(a.outcome)])])

    def notice(self, m: MailAccepted) -> str:
        """Returns what a notice tells, and the requests that it answers."""
        assert m.notice is not None
        answers = f"; answers {' '.join(map(str, m.answers))}" if m.answers else ""
        return f"{self.outcome(m.notice)}{answers}"

    def stopped(self, r: TurnStopped) -> str:
        """Returns which turn was asked to stop, why, and where its end will wake no agent."""
        below = "" if r.below is None else f"; wakes no agent at or below {self.agent(r.below)}"
        return f"{self.agent(r.agent)} turn {r.turn} ({why(self.s, r.cause, r.by)}){below}"

    def refusal(self, r: Refusal) -> str:
        """Returns a refusal's class and facts, by name."""
        facts = [f"{name} {self.fact(name, getattr(r, name))}" for name in r.fact_names]
        return ", ".join([type(r).__name__, *facts])

    def fact(self, field: str, value: Any) -> str:
        """Returns the value of one fact of a refusal."""
        if field in ("agent", "holder"):
            return self.agent(value)
        if field in ("holders", "queued", "agents"):
            return self.agents(value)
        return json.dumps(value)


RECORDS: dict[type, Callable[[Words, Any], str]] = {
    rc.AgentSpawned: lambda w, r: f"{w.agent(r.agent)}, {json.dumps(r.settings)}",
    rc.MailAccepted: lambda w, r: (
        f"{w.mail([r])} to {w.agent(r.target)}, {w.notice(r) if r.notice else json.dumps(r.message)}"
    ),
    rc.NoticeBuried: lambda w, r: f"{r.mail} to {w.agent(r.target)}, {w.outcome(r.notice)}",
    rc.MailWithdrawn: lambda w, r: f"{r.mail} to {w.agent(r.agent)}",
    rc.MailDemoted: lambda w, r: f"{' '.join(map(str, r.mails))} to {w.agent(r.agent)}",
    rc.MailRead: lambda w, r: f"{' '.join(map(str, r.mails))} by {w.agent(r.agent)} turn {r.turn}",
    rc.LoadBegun: lambda w, r: w.agent(r.agent),
    rc.LoadEnded: lambda w, r: w.agent(r.agent),
    rc.TurnStopped: lambda w, r: w.stopped(r),
    rc.TurnReturned: lambda w, r: f"{w.agent(r.agent)} turn {r.turn}",
    rc.AgentsForgotten: lambda _, r: ", ".join(f"#{agent}" for agent in r.agents),
    rc.TurnStarted: lambda w, r: f"{w.agent(r.agent)} turn {r.turn}",
    rc.MailDrained: lambda w, r: f"{w.agent(r.agent)} turn {r.turn}",
    rc.TurnEnded: lambda w, r: w.outcome(r.outcome),
    rc.AgentsClosed: lambda w, r: w.agents(r.agents),
    rc.AgentResumed: lambda w, r: w.agent(r.agent),
}
"""Record class -> the rest of its line, after the class's name."""

EFFECTS: dict[type, Callable[[Words, Any], str]] = {
    fx.Load: lambda w, e: f"{w.agent(e.agent)} generation {e.generation}, {json.dumps(e.settings)}",
    fx.StartTurn: lambda w, e: f"{w.agent(e.agent)} turn {e.turn} generation {e.generation}, reads {w.mail(e.mail)}",
    fx.Cancel: lambda w, e: f"{w.agent(e.agent)} turn {e.turn}",
    fx.Flush: lambda w, e: f"{w.agent(e.agent)} generation {e.generation} flush {e.flush}",
    fx.Unload: lambda w, e: f"{w.agent(e.agent)} generation {e.generation}",
    fx.Wake: lambda w, e: f"{w.agent(e.agent)} turn {e.turn} wait {e.wait}, {e.end.name}",
    fx.Answer: lambda w, e: f"mail {' '.join(map(str, e.mails))}: {w.outcome(e.outcome)}",
    fx.ShutDown: lambda w, e: (
        f"done {w.agents(e.done)}; interrupted {w.agents(e.interrupted)}; unflushed {w.agents(e.unflushed)}"
    ),
}
"""Effect class -> the rest of its line, after the class's name."""

REPLIES: dict[type, Callable[[Words, Any], str]] = {
    fx.Refused: lambda w, r: w.refusal(r.refusal),
    fx.Spawned: lambda w, r: f"{w.agent(r.agent)}, mail {r.mail}",
    fx.Accepted: lambda _, r: f"mail {r.mail}",
    fx.Drained: lambda w, r: w.mail(r.mail),
    fx.Interrupted: lambda w, r: f"was {r.previous.name.lower()}; {w.agents(r.agents)}",
    fx.Withdrawn: lambda *_: "",
    fx.Forgotten: lambda _, r: ", ".join(f"#{agent}" for agent in r.agents),
    fx.ClosedAgents: lambda w, r: w.agents(r.agents),
    fx.Resumed: lambda w, r: f"{w.agents(r.agents)}; skipped {w.agents(r.skipped)}",
    fx.WaitOver: lambda _, r: r.end.name,
    fx.Waiting: lambda _, r: str(r.wait),
    fx.AgentStatus: lambda w, r: w.status(r),
    fx.Listing: lambda w, r: "".join(f"\n{' ' * 10}{w.status(a)}" for a in r.agents) or "-",
    fx.ShuttingDown: lambda *_: "",
    fx.Stale: lambda *_: "",
}
"""Reply class -> the rest of its line, after the class's name. `Noted` has no line."""


def step_lines(s: Session, step: Step) -> Iterator[str]:
    """Yields reply, records and effects, a line each. The session is that after the step."""
    words = Words(s)
    if step.reply.__class__ is not fx.Noted:
        yield line("reply ", REPLIES, words, step.reply)
    yield from (line("record", RECORDS, words, record) for record in step.records)
    yield from (line("effect", EFFECTS, words, effect) for effect in step.effects)


def line(kind: str, rows: dict[type, Callable[[Words, Any], str]], words: Words, fact: Any) -> str:
    """Returns one fact as a line (a listing as several)."""
    said = rows[type(fact)](words, fact)
    return f"{kind}  {type(fact).__name__}{'' if said.startswith(chr(10)) or not said else ' '}{said}"


# Files


def files(folder: Path = TRACES) -> list[Path]:
    """Returns the traces of a folder, by name. Raises `NeedsCheckout` if there is no such folder."""
    checkout.require(folder)
    return sorted(folder.glob("*.txt"))


def difference(path: Path) -> str:
    """Returns how the file differs from what the core does now, as a unified diff; empty if it does not."""
    on_file, now = path.read_bytes().decode("utf-8"), render(read(path))
    diff = unified_diff(
        on_file.splitlines(keepends=True),
        now.splitlines(keepends=True),
        f"{path.name}, on file",
        f"{path.name}, what the core does now",
    )
    return "".join(diff)


def write(paths: Iterable[Path]) -> list[Path]:
    """Rewrites the logs; returns the changed files. Raises `BadTrace`, and writes nothing, if one is not a trace."""
    texts = {path: render(read(path)).encode() for path in paths}
    changed = [path for path, now in texts.items() if path.read_bytes() != now]
    for path in changed:
        path.write_bytes(texts[path])
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line. Returns 1 if a file is not a trace, if this is not a checkout and no file is named, or
    (without `--write`) if a trace differs from what the core does."""
    parser = ArgumentParser(
        f"python -m {__package__}.golden", description="Golden traces against the core, as unified diffs."
    )
    parser.add_argument("--write", action="store_true", help="rewrite the logs instead of showing how they differ")
    parser.add_argument("paths", nargs="*", type=Path, metavar="FILE", help="default: all of specs/traces")
    chosen = parser.parse_args(arguments)
    try:
        paths = chosen.paths or files()
        if chosen.write:
            print(*[f"written: {path.name}" for path in write(paths)] or ["nothing has changed"], sep="\n")
            return 0
        diffs = [difference(path) for path in paths]
    except (BadTrace, checkout.NeedsCheckout) as error:
        print(error, file=sys.stderr)
        return 1
    print("".join(diffs), end="")
    return int(any(diffs))


if __name__ == "__main__":
    sys.exit(main())
