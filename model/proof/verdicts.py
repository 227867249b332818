"""Everything that the engine does, as verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..verdicts import Verdict

Progress = Callable[[str], None]

QUICK_PROPERTIES = ("S1", "S2", "S3", "S14", "S16")
QUICK_SCOPES = ("reject", "gather")


def all_verdicts(quick: bool, progress: Progress) -> Iterator[Verdict]:
    """Yields each verdict as it is found."""
    yield from proofs(quick, progress)
    yield from ties(quick, progress)
    if not quick:
        yield from vacuity(progress)
        yield from defects(progress)
    yield from enumerations(quick, progress)


def proofs(quick: bool, progress: Progress) -> Iterator[Verdict]:
    """Obligations; the quick part has the caps, what happens to slots, and all of settled states."""
    from .prover import Proofs, prove  # noqa: PLC0415

    known = Proofs()
    groups = [("initiation", known.initiation()), ("settled", known.settled())]
    groups += [(name, known.of(transition)) for name, transition in known.transitions.items()]
    for name, obligations in groups:
        progress(f"prove {name}")
        for obligation in obligations:
            if quick and name not in ("initiation", "settled") and obligation.property not in QUICK_PROPERTIES:
                continue
            done = prove(obligation)
            note = done.note or ("" if done.holds else "refuted")
            yield Verdict(done.property, "proof", done.name, done.holds, done.seconds, note)


def vacuity(progress: Progress) -> Iterator[Verdict]:
    """Every transition can happen, in a world of four agents that has all invariants."""
    from .logic import Bounded  # noqa: PLC0415
    from .prover import Proofs, prove  # noqa: PLC0415

    progress("vacuity")
    few = Proofs(Bounded(4))
    for name, transition in few.transitions.items():
        done = prove(few.happens(transition))
        yield Verdict("vacuity", "proof", f"{name}: can happen", done.model is not None, done.seconds, done.note)


def ties(quick: bool, progress: Progress) -> Iterator[Verdict]:
    """Scopes in which relation and core take the same steps."""
    from ..exploration.scopes import find  # noqa: PLC0415
    from .tie import SCOPES, tie  # noqa: PLC0415

    for name in QUICK_SCOPES if quick else SCOPES:
        progress(f"tie {name}")
        done = tie(find(name))
        note = f"{done.states:,} states, {done.steps:,} steps, {done.refused:,} refused by both"
        if done.one_sided:
            note = f"{len(done.one_sided)} one-sided: {done.one_sided[0]}"
        yield Verdict("all", "tie", name, not done.one_sided and done.steps > 0, done.seconds, note)


def defects(progress: Progress) -> Iterator[Verdict]:
    """Planted defects, each refuted with a story."""
    from .defects import DEFECTS, refute  # noqa: PLC0415
    from .logic import Bounded  # noqa: PLC0415
    from .prover import Proofs  # noqa: PLC0415

    progress("refute a defect of every transition")
    few = Proofs(Bounded(4))
    for defect in DEFECTS:
        done = refute(few, defect)
        note = "\n".join(done.story) if done.is_refuted else done.proof.note
        yield Verdict(done.proof.property, "defect", done.proof.name, done.is_refuted, done.proof.seconds, note)


def enumerations(quick: bool, progress: Progress) -> Iterator[Verdict]:
    """The inductive step on the core, from every typed state of a shape."""
    from .enumeration import SHAPES, enumerate_shape  # noqa: PLC0415

    for shape in SHAPES[:1] if quick else SHAPES:
        progress(f"enumerate {shape.name}")
        done = enumerate_shape(shape)
        note = f"{done.typed:,} typed states, {done.states:,} with all properties, {done.steps:,} steps"
        if done.failures:
            note = f"{len(done.failures)} failures: {done.failures[0]}"
        holds = not done.failures and done.steps > 0
        yield Verdict("all", "enumeration", shape.name, holds, done.seconds, note)
