"""Judges one contract with CrossHair, which runs it with symbolic arguments until it has taken every path.

Nothing is believed for its word. A contract counts as confirmed only if all paths were taken and its precondition held
on one of them at least (without that, what can never be called would be confirmed); it counts as refuted only if plain
Python shows it with the arguments of the counterexample.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from time import process_time
from typing import Any, get_type_hints

from attrs import frozen
from crosshair.condition_parser import POSTCONDITION, PRECONDITION, ConditionExpr, Conditions, condition_parser
from crosshair.core import analyze_calltree
from crosshair.core_and_libs import MessageType
from crosshair.options import DEFAULT_OPTIONS, AnalysisOptionSet
from crosshair.statespace import VerificationStatus

from .contract import Contract

SECONDS_MAX = 20.0
"""Processor time after which a contract counts as not confirmed; the slowest needs a tenth of that."""


class Verdict(Enum):
    """What came out."""

    CONFIRMED = "confirmed over all paths"
    REFUTED = "refuted"
    RAISED = "refuted by an exception"
    VACUOUS = "its precondition never holds"
    UNKNOWN = "not confirmed"
    FALSE_ALARM = "refuted by CrossHair, but plain Python does not show it"


@frozen
class Judgement:
    """The verdict on one contract. `arguments` are those of the counterexample; `seconds` is processor time."""

    verdict: Verdict
    paths: int
    seconds: float
    arguments: Mapping[str, Any] | None = None
    said: str = ""
    """What CrossHair said, if it confirmed nothing."""


def judge(contract: Contract, seconds: float = SECONDS_MAX) -> Judgement:
    """Runs the contract on every path, up to the first that refutes it."""
    began = process_time()
    found: list[Mapping[str, Any]] = []
    options = DEFAULT_OPTIONS.overlay(
        AnalysisOptionSet(analysis_kind=(), per_condition_timeout=seconds, per_path_timeout=seconds / 2)
    )
    with condition_parser(options.analysis_kind):
        analysis = analyze_calltree(options, conditions(contract, found))
    took = process_time() - began
    said = "; ".join(message.message for message in analysis.messages)
    kinds = {message.state for message in analysis.messages}
    if kinds == {MessageType.PRE_UNSAT}:
        return Judgement(Verdict.VACUOUS, 0, took, None, said)
    if analysis.verification_status is VerificationStatus.CONFIRMED:
        verdict = Verdict.CONFIRMED if analysis.num_confirmed_paths else Verdict.VACUOUS
        return Judgement(verdict, analysis.num_confirmed_paths, took, None, said)
    if analysis.verification_status is VerificationStatus.REFUTED and found:
        return Judgement(replayed(contract, found[-1]), analysis.num_confirmed_paths, took, found[-1], said)
    return Judgement(Verdict.UNKNOWN, analysis.num_confirmed_paths, took, None, said)


def replayed(contract: Contract, arguments: Mapping[str, Any]) -> Verdict:
    """Calls the contract in plain Python with the arguments of a counterexample."""
    if not contract.given(**arguments):
        return Verdict.FALSE_ALARM
    try:
        return Verdict.FALSE_ALARM if contract.holds(**arguments) else Verdict.REFUTED
    except Exception:  # whatever a defect of the core may raise
        return Verdict.RAISED


def conditions(contract: Contract, found: list[Mapping[str, Any]]) -> Conditions:
    """Puts the contract into the terms of CrossHair. The arguments of a counterexample are appended to `found`."""
    function = contract.holds
    file, line = inspect.getsourcefile(function) or "", function.__code__.co_firstlineno
    hints = get_type_hints(function)
    signature = inspect.signature(function)
    typed = [p.replace(annotation=hints[name]) for name, p in signature.parameters.items()]

    def condition(kind: Any, evaluate: Callable[[Mapping[str, Any]], bool]) -> ConditionExpr:
        return ConditionExpr(kind, evaluate, file, line, contract.name)

    def describe(bound: inspect.BoundArguments, returned: object, _: object) -> tuple[str, str]:
        found.append(dict(bound.arguments))
        return f"{function.__name__}({', '.join(f'{k}={v!r}' for k, v in bound.arguments.items())})", repr(returned)

    def is_given(scope: Mapping[str, Any]) -> bool:
        return contract.given(**{name: scope[name] for name in signature.parameters})

    return Conditions(
        function,
        function,
        [condition(PRECONDITION, is_given)],
        [condition(POSTCONDITION, lambda scope: scope["__return__"])],
        frozenset(),
        signature.replace(parameters=typed, return_annotation=bool),
        None,
        [],
        describe,
    )
