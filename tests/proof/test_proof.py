"""The proof: its obligations hold, what is planted is refuted, and the relation takes the steps of the core."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from attrs import evolve

from model.documents.proof import proof_document
from model.exploration.scopes import find
from model.proof import tie as tying
from model.proof.claims import CLAIMS, Extent
from model.proof.defects import DEFECTS, refute
from model.proof.enumeration import SHAPES, enumerate_shape
from model.proof.invariants import INVARIANTS, SETTLED, STEPS
from model.proof.logic import Bounded
from model.proof.prover import Proofs, prove
from model.proof.relation import TRANSITIONS
from model.proof.tie import WORDS, tie
from statemachine.checking.properties import PROPERTIES
from statemachine.core import events as ev


@cache
def proofs() -> Proofs:
    return Proofs()


@cache
def few() -> Proofs:
    return Proofs(Bounded(4))


@pytest.mark.parametrize("name", ["go_on", "evict", "close"])
def test_every_obligation_of_a_transition_holds(name: str) -> None:
    done = [prove(obligation) for obligation in proofs().of(TRANSITIONS[name])]
    assert [proof.name for proof in done if not proof.holds] == []
    assert len(done) > len(INVARIANTS)


def test_an_opened_or_recovered_session_has_every_invariant() -> None:
    done = [prove(obligation) for obligation in proofs().initiation()]
    assert [proof.name for proof in done if not proof.holds] == []
    assert len(done) == len(INVARIANTS)


def test_a_settled_state_has_every_theorem() -> None:
    done = [prove(obligation) for obligation in proofs().settled()]
    assert [proof.name for proof in done if not proof.holds] == []
    assert len(done) == len(SETTLED)


def test_a_transition_that_can_happen_is_not_proved_never_to() -> None:
    assert prove(few().happens(TRANSITIONS["swap"])).model is not None
    impossible = evolve(TRANSITIONS["swap"], guard=lambda s, x, y: s.held > s.cap)
    assert prove(few().happens(impossible)).holds


def test_every_transition_has_a_defect() -> None:
    assert [defect.transition for defect in DEFECTS] == list(dict.fromkeys(d.transition for d in DEFECTS))
    assert {defect.transition for defect in DEFECTS} == set(TRANSITIONS)


@pytest.mark.parametrize(
    "defect", [d for d in DEFECTS if d.transition in ("lend", "evict")], ids=lambda d: d.transition
)
def test_a_planted_defect_is_refuted_with_a_story(defect: object) -> None:
    (planted,) = [d for d in DEFECTS if d is defect]
    found = refute(few(), planted)
    assert found.is_refuted
    assert planted.sentence in found.story[0]
    assert any(line.startswith(f"  {planted.transition} /") for line in found.story)


@pytest.mark.parametrize("name", ["reject", "gather"])
def test_relation_and_core_take_the_same_steps(name: str) -> None:
    done = tie(find(name))
    assert done.one_sided == []
    assert done.steps > 1000


def test_the_tie_sees_a_relation_that_allows_too_much_and_one_that_does_too_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(TRANSITIONS, "ask", evolve(TRANSITIONS["ask"], guard=lambda s, x: True))
    assert any("the relation allows it" in line for line in tie(find("reject"), 60).one_sided)
    monkeypatch.undo()
    monkeypatch.setitem(TRANSITIONS, "loaded", evolve(TRANSITIONS["loaded"], guard=lambda s, x: False))
    assert any("the relation does not allow" in line for line in tie(find("reject"), 60).one_sided)


def test_the_tie_sees_an_event_whose_word_is_another() -> None:
    assert ev.Drain in WORDS
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tying.WORDS, ev.Drain, lambda s, e: ())
        assert tie(find("wake"), 200).one_sided


def test_every_typed_state_keeps_its_properties() -> None:
    done = enumerate_shape(SHAPES[0])
    assert done.failures == []
    assert done.states > 100
    assert done.steps > 20 * done.states
    assert done.typed == done.states + sum(done.excluded.values())


def test_every_property_has_a_claim_and_each_claim_an_obligation() -> None:
    claimed = [claim.property for claim in CLAIMS]
    assert [p.id for p in PROPERTIES] == [name for name in claimed if not name.startswith("theorem")]
    proved = {i.property for i in INVARIANTS.values()} | {i.property for i in STEPS} | {i.property for i in SETTLED}
    for claim in CLAIMS:
        assert (claim.property in proved) == (claim.extent is not Extent.NOT), claim.property
        assert bool(claim.missing) == (claim.extent is not Extent.WHOLE), claim.property


def test_the_document_is_the_tables_own() -> None:
    assert (Path(__file__).parents[2] / "specs" / "proof.md").read_text("utf-8") == proof_document()
