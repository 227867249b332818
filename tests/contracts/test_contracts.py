"""The contracts of the rules: all are confirmed, each can be refuted, and nothing is believed for its word."""

from __future__ import annotations

from typing import Any

import pytest

from model.contracts import engine, prover
from model.contracts.contract import CONTRACTS, Contract, Twin
from model.contracts.prover import Finding
from model.contracts.wording import PAIRS, Pair, wording
from statemachine.checking.properties import PROPERTIES
from statemachine.core import rules

KNOWN = {known.id for known in PROPERTIES} | {f"J{n}" for n in range(1, 10)} | {f"N{n}" for n in range(1, 6)}


def by_name(subject: Any) -> str:
    return str(subject.name).replace(" ", "-")


@pytest.mark.parametrize("contract", CONTRACTS, ids=by_name)
def test_contract_is_confirmed_over_all_paths_and_refuted_with_its_twin(contract: Contract) -> None:
    found = prover.judge(contract)
    assert found.finding is Finding.CONFIRMED, found
    assert found.paths > 0
    with contract.twin.planted():
        planted = prover.judge(contract)
        assert planted.finding is Finding.REFUTED, planted
        assert planted.arguments is not None
        assert contract.given(**planted.arguments)
        assert not contract.holds(**planted.arguments)
    assert contract.holds(**planted.arguments), "the twin is gone again"


@pytest.mark.parametrize("pair", PAIRS, ids=by_name)
def test_rule_agrees_with_the_references_wording_and_its_twin_does_not(pair: Pair) -> None:
    assert prover.compare(pair).finding is Finding.CONFIRMED
    with pair.twin.planted():
        planted = prover.compare(pair)
        assert planted.finding is Finding.REFUTED
        assert planted.arguments is not None
        assert pair.core(**planted.arguments) != pair.reference(**planted.arguments)


def test_there_are_sixty_contracts_at_least_each_about_something_that_semantics_names() -> None:
    assert len(CONTRACTS) >= 60
    assert {contract.about for contract in CONTRACTS} | {pair.about for pair in PAIRS} <= KNOWN
    names = [contract.name for contract in CONTRACTS]
    assert len(names) == len(set(names))
    assert {contract.room for contract in CONTRACTS} == {m.__name__.rpartition(".")[2] for m in engine.MODULES}


def test_every_rule_of_the_core_is_called_by_a_contract_that_its_defect_breaks() -> None:
    decided = {name for name, value in vars(rules).items() if getattr(value, "__module__", "") == rules.__name__}
    twins = {contract.twin.rule for contract in CONTRACTS if contract.twin.owner is rules}
    twins |= {"has_attempts_left"} & {contract.twin.rule for contract in CONTRACTS}
    assert decided - twins == set()


# What the prover believes

BROKEN = Twin(rules, "is_due", lambda overtaken, most: True, "always due")


def due_within(overtaken: int, most: int) -> bool:
    return rules.is_due(overtaken, most) == (overtaken >= most)


def never_due(overtaken: int, most: int) -> bool:
    return not rules.is_due(overtaken, most)


def never_due_if_asked(number: int) -> bool:
    return not rules.is_due(number, 0) or bool({number: number}[0] + 1)


def made(holds: Any, given: Any) -> Contract:
    return Contract("L11", holds, given, BROKEN)


def test_contract_whose_precondition_cannot_hold_is_vacuous_and_fails_the_run() -> None:
    vacuous = made(due_within, lambda overtaken, most: overtaken < most < overtaken)
    assert prover.judge(vacuous).finding is Finding.VACUOUS
    verdict = engine.verdict_on(vacuous, prover.judge, "contract", "vacuous", quick=True)
    assert not verdict.holds
    assert "never holds" in verdict.note


def test_contract_whose_precondition_raises_is_not_confirmed() -> None:
    mistaken = made(due_within, lambda overtaken: True)
    assert prover.judge(mistaken).finding is Finding.UNKNOWN

    def raises_sometimes(overtaken: int, most: int) -> bool:
        if overtaken > most:
            raise ValueError
        return True

    found = prover.judge(made(due_within, raises_sometimes))
    assert found.finding is Finding.UNKNOWN
    assert "its precondition raises ValueError" in found.said


def test_counterexample_that_plain_python_does_not_show_is_a_false_alarm() -> None:
    contract = made(due_within, lambda **_: True)
    assert prover.replayed(contract, {"overtaken": 1, "most": 1}) is Finding.FALSE_ALARM
    outside = made(never_due, lambda overtaken, most: overtaken < most)
    assert prover.replayed(outside, {"overtaken": 1, "most": 1}) is Finding.FALSE_ALARM


def test_contract_that_is_broken_is_refuted_and_names_the_arguments() -> None:
    verdict = engine.verdict_on(made(never_due, lambda **_: True), prover.judge, "contract", "broken", quick=True)
    assert not verdict.holds
    assert "never_due(overtaken=" in verdict.note


def test_contract_that_raises_is_told_apart_from_one_that_is_false() -> None:
    found = prover.judge(made(never_due_if_asked, lambda **_: True))
    assert found.finding is Finding.RAISED
    assert "KeyError" in found.said


def test_contract_that_takes_too_many_paths_is_not_confirmed() -> None:
    def digits(number: int) -> bool:
        return {number: 1}[number] == 1

    assert prover.judge(made(digits, lambda **_: True), seconds=0.5).finding is Finding.UNKNOWN


def test_contract_whose_twin_changes_nothing_does_not_hold() -> None:
    twin = Twin(rules, "is_due", rules.is_due, "none")
    verdict = engine.verdict_on(
        Contract("L11", due_within, lambda **_: True, twin), prover.judge, "contract", "due", quick=False
    )
    assert not verdict.holds
    assert "is not refuted" in verdict.note


def test_pair_of_which_too_few_paths_were_taken_does_not_agree() -> None:
    def theirs(number: int) -> int:
        return len(str(number))

    count = len(PAIRS)
    ours = wording("L11", theirs, rules, "is_due", rules.is_due, "none")(lambda number: len(str(number)))
    pair = PAIRS.pop()
    assert ours is pair.core
    assert len(PAIRS) == count
    pair.core.__annotations__["number"] = int
    assert prover.compare(pair, 0.3).finding is Finding.UNKNOWN


def test_quick_run_confirms_contracts_alone_and_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CONTRACTS", [contract for contract in CONTRACTS if contract.room == "slots"][:2])
    monkeypatch.setattr(engine, "PAIRS", PAIRS[:1])
    said: list[str] = []
    quick = engine.run(quick=True, progress=said.append)
    assert [(v.property, v.engine, v.holds) for v in quick] == [("S1", "contract", True), ("S13", "contract", True)]
    assert len(said) == 2
    assert said[0].startswith("contract 1 of 2: ")
    whole = engine.run(quick=False, progress=said.append)
    assert [v.engine for v in whole] == ["contract", "contract", "wording"]
    assert all(v.holds and "refuted with its twin" in v.note for v in whole)
