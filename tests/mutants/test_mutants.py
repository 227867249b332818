"""Mutants are drawn by a seed, differ in one place, run in place of the core, and are judged by who notices them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from model.check import Part
from model.command import mutants as command
from model.documents import mutants as document
from model.mutants import campaign, drawing, judging
from model.mutants.campaign import NothingIsNoticed, Results, kept, unmutated
from model.mutants.drawing import PACKAGE, Mutant, draw, places
from model.mutants.explained import EQUIVALENT, EXPLAINED, KINDS, MENDED, MISSED, Explanation
from model.mutants.judging import IMPORT, PLANTED, Verdict, checks, first_to_notice, judge, planted, said_by
from model.mutants.operators import METHODS, WORDS


@pytest.fixture(scope="module")
def drawn() -> list[Mutant]:
    return draw(40, 7)


def slots(before: str, after: str) -> Mutant:
    """A mutant of the slots, made by hand."""
    original = (PACKAGE / "core" / "slots.py").read_text("utf-8")
    assert original.count(before) >= 1
    source = original.replace(before, after, 1)
    return Mutant("statemachine.core.slots", "Slots", before, after, source, original)


# Drawing


def test_seed_draws_the_same_mutants_and_another_seed_others(drawn: list[Mutant]) -> None:
    assert draw(40, 7) == drawn
    assert draw(5, 7) == drawn[:5]
    assert {mutant.id for mutant in draw(40, 8)} != {mutant.id for mutant in drawn}


def test_mutant_is_python_and_differs_from_its_module_in_the_lines_that_it_names(drawn: list[Mutant]) -> None:
    assert len({mutant.id for mutant in drawn}) == 40
    for mutant in drawn:
        path = PACKAGE.joinpath(*mutant.module.split(".")[1:]).with_suffix(".py")
        assert mutant.original == path.read_text("utf-8")
        assert ast.dump(ast.parse(mutant.source)) != ast.dump(ast.parse(mutant.original)), mutant.id
        assert mutant.before in mutant.original
        assert mutant.after in mutant.source


def mutants_of(text: str, folder: Path) -> list[str]:
    """What the lines of a function, which is all that a module has, become."""
    path = folder / "module.py"
    path.write_text(f"def f():\n    {text}\n", "utf-8")
    original = path.read_bytes()
    found = [original[: edit.start] + edit.text.encode() + original[edit.end :] for _, edit in places(path)]
    return sorted(made.decode().removeprefix("def f():\n").strip() for made in found)


@pytest.mark.parametrize(
    ("text", "mutants"),
    [
        ("return a < b", ["return a <= b"]),
        ("return a  is not  b", ["return a  is  b"]),
        ("return a not in (b) is c", ["return a in (b) is c", "return a not in (b) is not c"]),
        ("return a and (b) and c", ["return a and (b) or c", "return a or (b) and c"]),
        ("return not (a or b)", ["return (a or b)", "return not (a and b)"]),
        ("return a - 1", ["return a + 1", "return a - 2"]),
        ("return -a", []),
        ("return ~a", ["return a"]),
        ("a += b", ["a -= b", "a = b"]),
        ("a = b", ["a = None"]),
        ("a: int = b", ["a: int = None"]),
        ("a = None", ['a = ""']),
        ("return True", ["return False"]),
        ("return 'a'", ["return 'XXaXX'"]),
        ("return 'two words'", []),
        ("return f'{a + 1}'", []),
        ("return lambda: a", ["return lambda: None"]),
        ("return lambda a=1: None", ["return lambda a=1: 0"]),
        ("return a(b)", ["return a(None)"]),
        ("return a(x for x in b)", ["return a(None)"]),
        ("return a(None)", []),
        ("return a(b, *c, d=e)", ["a(*c, d=e)", "a(None, *c, d=e)", "a(b, *c)", "a(b, *c, d=None)", "a(b, d=e)"]),
        ("return 'é'.lower() is a", ["'XXéXX'.lower() is a", "'é'.lower() is not a", "'é'.upper() is a"]),
        ("while a: break", ["while a: return"]),
        ("while a: continue", ["while a: break"]),
        ("assert a < b", []),
        ("raise a(b)", []),
    ],
)  # fmt: skip
def test_code_becomes_what_its_operators_say(text: str, mutants: list[str], tmp_path: Path) -> None:
    word = text.partition(" ")[0]
    expected = [made if made.startswith(word) else f"return {made}" for made in mutants]
    assert mutants_of(text, tmp_path) == sorted(expected)


def test_parameters_decorators_and_what_is_not_in_a_function_stay(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "A = 1\nclass B:\n    a = 1\n    @b(1)\n    def f(self, c: a[1] = 2) -> a[3]:\n        ...\n", "utf-8"
    )
    assert list(places(path)) == []
    path.write_text("class B:\n    def f(self):\n        def g():\n            return 1\n        return 2\n", "utf-8")
    assert [name for name, _ in places(path)] == ["B.f.g", "B.f"]


def test_every_operator_of_python_is_known_and_has_another() -> None:
    kinds = {*ast.cmpop.__subclasses__(), *ast.operator.__subclasses__(), *ast.boolop.__subclasses__()}
    assert kinds - WORDS.keys() == {ast.MatMult}
    assert all(word != other for word, other in WORDS.values())
    assert all(hasattr("", name) and METHODS[METHODS[name]] == name for name in METHODS)


def test_every_module_of_both_rooms_is_mutated() -> None:
    names = {path.relative_to(PACKAGE).as_posix() for path in drawing.modules() if any(places(path))}
    assert {"core/operations.py", "core/rules.py", "log/recovery.py", "log/trace.py"} <= names
    assert len(names) > 20


# Judging


def test_planted_text_is_what_a_program_imports_and_the_file_stays_as_it_was(tmp_path: Path) -> None:
    text = tmp_path / "text.py"
    text.write_text("from statemachine.core import nothing_of_this_name\n", "utf-8")
    asked = [*planted("statemachine.core.slots", text), "tests.mutants.asked"]
    assert "runpy.run_module" in PLANTED
    told = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert "nothing_of_this_name" in told.stderr


def test_mutant_that_breaks_a_rule_is_caught_by_exploring() -> None:
    verdict = judge(slots("self.held += 1", "self.held += 2"))
    assert verdict is not None
    assert verdict.engine == "exploration", verdict
    assert not verdict.tests


def test_mutant_that_cannot_be_imported_is_caught_by_that() -> None:
    verdict = judge(slots("class Slots", "raise ValueError\n\nclass Slots"))
    assert verdict is not None
    assert verdict.by == IMPORT


def test_mutant_is_given_up_if_its_pool_is_asked_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "stop_is_asked", lambda: True)
    assert judge(slots("self.held += 1", "self.held += 2")) is None


def raises() -> bool:
    raise KeyError("a")


def hangs() -> bool:
    while True:
        pass


@pytest.mark.parametrize(
    ("notices", "by"),
    [(lambda: False, ""), (lambda: True, "one"), (raises, "one"), (hangs, "one, which does not end")],
)
def test_check_that_raises_or_does_not_end_has_noticed(
    notices: Callable[[], bool], by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "CHECK_SECONDS_MAX", 1)
    monkeypatch.setattr(judging, "checks", lambda _: iter([("one", notices)]))
    assert first_to_notice("") == by


def test_checks_are_those_of_the_evidence_and_begin_where_the_mutant_is() -> None:
    names = [name for name, _ in checks("statemachine.core.slots")]
    assert names[:2] == ["tables", "exploration: reject"]
    assert {"fuzz", "log", "fairness", "contracts", "proof"} <= {*names}
    assert [name for name, _ in checks("statemachine.log.trace")][:3] == ["tables", "log", "exploration: reject"]


def test_what_a_process_says_last_counts_and_one_that_says_nothing_has_failed_to_import() -> None:
    assert said_by('noise\n\n{"by": "exploration: pair", "tests": false}\n') == ("exploration: pair", False)
    assert said_by('{"by": "", "tests": true}\n') == ("", True)
    for text in ("", "Killed\n", "[]\n", "1\n"):
        assert said_by(text) == (IMPORT, False)


# The campaign


def results(*by: str) -> Results:
    verdicts = [
        Verdict(f"core.slots: `{number}` -> `a | b`", "" if one == "tests" else one, one == "tests", 1.0)
        for number, one in enumerate(by)
    ]
    return Results("2026-01-31", 7, "CPython 3.11.9, spin 6.5.2", 2, 60.0, tuple(verdicts))


def test_share_leaves_out_what_cannot_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = results("exploration: pair", "tests", "", "fuzz")
    missed, equivalent = found.survivors
    assert (found.caught, found.share, found.unexplained) == (2, 0.5, (missed, equivalent))
    assert found.by_engine() == {"exploration": 1, "fuzz": 1}
    monkeypatch.setitem(EXPLAINED, equivalent.id, Explanation(EQUIVALENT, "it is slower"))
    assert (found.share, found.unexplained) == (2 / 3, (missed,))
    monkeypatch.setitem(EXPLAINED, missed.id, Explanation(MISSED, "no engine opens files"))
    assert (found.share, found.unexplained) == (2 / 3, ())
    text = document.document(found)
    told = " ".join(text.split())
    assert "Of 4 mutants 2 are caught, and 2 survive, 1 of them equivalent: 66.7% of those that are not" in told
    assert "| yes | missed | no engine opens files |" in text
    assert "| no | equivalent | it is slower |" in text
    assert document.document(document.read(text)) == text


def judges(*verdicts: Verdict | None) -> Callable[..., bool]:
    """A pool that judges so: the control first."""

    def conduct(jobs: int, next_task: Any, take: Any) -> bool:
        for number, verdict in enumerate(verdicts):
            mutant = next_task(number).arguments[0]
            take(verdict and evolve(verdict, id=mutant.id))
        return None in verdicts

    return conduct


SEEN, UNSEEN = Verdict("", "exploration: pair", False, 3.0), Verdict("", "", False, 5.0)


def test_campaign_goes_on_where_it_was_and_judges_survivors_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[Part]()
    monkeypatch.setattr(campaign, "conduct", judges(UNSEEN, SEEN, UNSEEN, None))
    assert campaign.run(3, 7, 2, told.append, tmp_path) is None
    assert [part.name for part in told] == ["drawing", "drawing", "mutants", "mutants"]
    with (tmp_path / "7.jsonl").open("a") as file:
        file.write('\n{"id": "cut off')
    assert [verdict.by for verdict in kept(tmp_path / "7.jsonl")] == ["exploration: pair", ""]
    monkeypatch.setattr(campaign, "conduct", judges(UNSEEN, SEEN, UNSEEN))
    found = campaign.run(3, 7, 2, told.append, tmp_path)
    assert found is not None
    assert [verdict.by for verdict in found.verdicts] == ["exploration: pair", "exploration: pair", ""]
    assert (found.seconds, found.seed) == (5.5, 7)


@pytest.mark.parametrize("noticed", [SEEN, evolve(UNSEEN, tests=True)])
def test_campaign_says_nothing_if_what_is_not_mutated_is_noticed(
    noticed: Verdict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = draw(1, 7)[0]
    assert unmutated(first).source == first.original
    assert unmutated(first).id != first.id
    monkeypatch.setattr(campaign, "conduct", judges(noticed, SEEN))
    with pytest.raises(NothingIsNoticed, match="fails on the core as it is"):
        campaign.run(1, 7, 1, lambda _: None, tmp_path)


# The command


@pytest.mark.parametrize("as_json", [False, True])
def test_command_tells_of_survivors_and_fails_while_one_is_not_explained(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = results("exploration: pair", "tests")
    asked = list[tuple[int, int, int]]()

    def conduct(number: int, seed: int, jobs: int, show: Callable[[Part], None]) -> Results:
        asked.append((number, seed, jobs))
        show(Part("mutants", 1, doing="one"))
        return found

    monkeypatch.setattr(campaign, "run", conduct)
    monkeypatch.setattr(document, "DOCUMENT", tmp_path / "mutants.md")
    for explained, code in ((False, 1), (True, 0)):
        if explained:
            monkeypatch.setitem(EXPLAINED, found.survivors[0].id, Explanation(MISSED, "no engine opens files"))
        with pytest.raises(SystemExit) as ended:
            command.run(2, 7, 3, explained, as_json)
        assert ended.value.code == code
        told = capsys.readouterr()
        assert "mutants 1: one" in told.err
        assert ('"caught": 1' if as_json else "1 of 2 caught, 50.0% of those that are not equivalent") in told.out
    assert document.read((tmp_path / "mutants.md").read_text("utf-8")).caught == 1
    assert asked == [(2, 7, 3)] * 2


def test_command_that_is_interrupted_says_so_by_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "run", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        command.run(2, 7, 3, False, False)
    assert ended.value.code == 130


# The document on file


def test_document_on_file_says_what_its_rows_and_the_explanations_say_and_none_is_missing() -> None:
    text = document.DOCUMENT.read_text("utf-8")
    found = document.read(text)
    assert document.document(found) == text
    assert len({verdict.id for verdict in found.verdicts}) == len(found.verdicts) >= 200
    assert found.unexplained == ()
    assert {verdict.id for verdict in found.survivors} == EXPLAINED.keys()
    assert {verdict.id for verdict in found.mended} == MENDED.keys()
    assert 0.95 <= found.share_at_first < found.share


def test_every_survivor_that_is_explained_is_of_a_known_kind() -> None:
    for id_, why in EXPLAINED.items():
        assert why.kind in KINDS, id_
        assert why.reason
    assert all(MENDED.values())
    assert EXPLAINED.keys().isdisjoint(MENDED)
