"""Judges one contract with CrossHair, which runs it with symbolic arguments until it has taken every path.

Nothing is believed for its word. A contract counts as confirmed only if all paths were taken and its precondition held
on one of them at least (without that, what can never be called would be confirmed); it counts as refuted only if plain
Python shows it with the arguments of the counterexample.
"""

from __future__ import annotations

import inspect
import re
from ast import literal_eval
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum, EnumType
from time import process_time
from typing import Any, get_type_hints

from attrs import frozen
from crosshair.condition_parser import POSTCONDITION, PRECONDITION, ConditionExpr, Conditions, condition_parser
from crosshair.core import analyze_calltree
from crosshair.core_and_libs import MessageType
from crosshair.diff_behavior import diff_behavior
from crosshair.fnutil import FunctionInfo
from crosshair.options import DEFAULT_OPTIONS
from crosshair.statespace import VerificationStatus

from .contract import Contract
from .wording import Pair

SECONDS_MAX = 20.0
"""Processor time after which a contract counts as not confirmed; the slowest needs a tenth of that."""


OPTIONS = replace(DEFAULT_OPTIONS, analysis_kind=())
"""No kind: CrossHair looks for no contracts in what is called."""


class Finding(Enum):
    """What came out."""

    CONFIRMED = "confirmed over all paths"
    REFUTED = "refuted"
    RAISED = "refuted by an exception"
    VACUOUS = "its precondition never holds"
    UNKNOWN = "not confirmed"
    FALSE_ALARM = "refuted by CrossHair, but plain Python does not show it"


@frozen
class Judgement:
    """What was found about one contract. `arguments` are those of the counterexample; `seconds` is processor time."""

    finding: Finding
    paths: int
    seconds: float
    arguments: Mapping[str, Any] | None = None
    said: str = ""
    """What CrossHair said, if it confirmed nothing."""


def judge(contract: Contract, seconds: float = SECONDS_MAX) -> Judgement:
    """Runs the contract on every path, up to the first that refutes it."""
    began = process_time()
    found: list[Mapping[str, Any]] = []
    errors: list[Exception] = []
    options = replace(OPTIONS, per_condition_timeout=seconds, per_path_timeout=seconds / 2)
    with condition_parser(options.analysis_kind):
        analysis = analyze_calltree(options, conditions(contract, found, errors))
    took = process_time() - began
    said = "; ".join(message.message for message in analysis.messages)
    if errors:
        return Judgement(Finding.UNKNOWN, 0, took, None, f"its precondition raises {errors[0]!r}")
    kinds = {message.state for message in analysis.messages}
    if kinds == {MessageType.PRE_UNSAT}:
        return Judgement(Finding.VACUOUS, 0, took, None, said)
    if analysis.verification_status is VerificationStatus.CONFIRMED:
        finding = Finding.CONFIRMED if analysis.num_confirmed_paths else Finding.VACUOUS
        return Judgement(finding, analysis.num_confirmed_paths, took, None, said)
    if analysis.verification_status is VerificationStatus.REFUTED and found:
        return Judgement(replayed(contract, found[-1]), analysis.num_confirmed_paths, took, found[-1], said)
    return Judgement(Finding.UNKNOWN, analysis.num_confirmed_paths, took, None, said)


def replayed(contract: Contract, arguments: Mapping[str, Any]) -> Finding:
    """Calls the contract in plain Python with the arguments of a counterexample."""
    if not contract.given(**arguments):
        return Finding.FALSE_ALARM
    try:
        return Finding.FALSE_ALARM if contract.holds(**arguments) else Finding.REFUTED
    except Exception:  # whatever a defect of the core may raise
        return Finding.RAISED


def conditions(contract: Contract, found: list[Mapping[str, Any]], errors: list[Exception]) -> Conditions:
    """Puts the contract into the terms of CrossHair. The arguments of a counterexample are appended to `found`, and
    what its precondition raises to `errors`: for CrossHair it would only not hold there.
    """
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
        try:
            return contract.given(**{name: scope[name] for name in signature.parameters})
        except Exception as error:
            errors.append(error)
            raise

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


def compare(pair: Pair, seconds: float = SECONDS_MAX) -> Judgement:
    """Looks for arguments for which a rule and the reference's wording of it differ: on all paths of the one, and then
    on all paths of the other.
    """
    began = process_time()
    stats: Counter[str] = Counter()
    options = replace(OPTIONS, per_condition_timeout=2 * seconds, per_path_timeout=seconds, stats=stats)
    found = diff_behavior(FunctionInfo.from_fn(pair.core), FunctionInfo.from_fn(pair.reference), options)
    took, paths = process_time() - began, stats["num_paths"]
    if isinstance(found, str):
        return Judgement(Finding.UNKNOWN, paths, took, None, found)
    if found:
        hints = get_type_hints(pair.core)
        arguments = {name: plain(text, hints[name]) for name, text in found[0].args.items()}
        differ = pair.core(**arguments) != pair.reference(**arguments)
        return Judgement(Finding.REFUTED if differ else Finding.FALSE_ALARM, paths, took, arguments, str(found[0]))
    finding = Finding.CONFIRMED if stats["exhaustion"] == len((pair.core, pair.reference)) else Finding.UNKNOWN
    return Judgement(finding, paths, took)


def plain(text: str, hint: Any) -> Any:
    """Returns the value that CrossHair shows as this text: of a member of an enum, its `repr`."""
    value = literal_eval(re.sub(r"<\w+\.\w+: (\w+)>", r"\1", text))
    return hint(value) if isinstance(hint, EnumType) else value
