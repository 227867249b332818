"""specs/claims.md: the code of every claim was broken, and a test that the claim links to noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from model import checkout
from model.documents import claims
from model.documents.claims import NOT_RUN, NOTHING, Claim, Code, Verdict, broken, run, tried
from model.documents.weakenings import UnknownCode, weakenings

SOURCE = '''\
from contextlib import contextmanager

TABLE: dict[str, int] = {"a": 1, "b": 2, "c": 3}
EMPTY = ()

def is_even(number: int) -> bool:
    """Tells."""
    return number % 2 == 0

def nothing(items: list[int]) -> None:
    items.append(1)

def half(number: int) -> int | None:
    return number // 2 if is_even(number) else None

def numbers(most: int):
    def inner():
        yield 0
    yield from range(most)

@contextmanager
def block(items):
    items.append("in")
    yield items
    items.append("out")

class Box:
    def __init__(self, size: int) -> None:
        self.size = size

    def _hidden(self) -> str:
        return "hidden"

    def shown(self) -> tuple[int, ...]:
        return (self.size,)

class Fact(Exception):
    size: int = 0
    text: str = "fact"
'''


def words(name: str) -> list[str]:
    return [weakening.what for weakening in weakenings(SOURCE, name)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("is_even", ["`is_even` returns True", "`is_even` returns False"]),
        ("nothing", ["`nothing` does nothing"]),
        ("half", ["`half` returns None"]),
        ("numbers", ["`numbers` yields nothing"]),
        ("block", ["`block` does nothing around its block"]),
        ("Box.shown", ["`Box.shown` returns ()"]),
        ("Box", ["`Box.shown` returns ()", "`Box._hidden` returns ''", "`Box.__init__` keeps nothing"]),
        ("TABLE", ["`TABLE` lacks its last item", "`TABLE` lacks its first item"]),
        ("EMPTY", []),
        ("Fact", ["`Fact` lacks its field `text`"]),
    ],
)
def test_code_is_broken_by_what_means_least(name: str, expected: list[str]) -> None:
    assert words(name) == expected


def test_file_is_broken_function_by_function() -> None:
    assert words("module.py")[:3] == words("is_even") + words("nothing")
    assert len(words("module.py")) == 6


def test_each_break_does_what_it_says_and_nothing_else() -> None:
    def made(name: str, number: int = 0) -> dict[str, object]:
        space: dict[str, object] = {}
        exec(compile(list(weakenings(SOURCE, name))[number].source, name, "exec"), space)
        return space

    whole = made("nothing")
    for name, number, call, expected in [
        ("is_even", 0, "is_even(1)", True),
        ("is_even", 1, "is_even(2)", False),
        ("half", 0, "half(4)", None),
        ("numbers", 0, "list(numbers(3))", []),
        ("Box.shown", 0, "Box(3).shown()", ()),
        ("TABLE", 0, "TABLE", {"a": 1, "b": 2}),
        ("TABLE", 1, "TABLE", {"b": 2, "c": 3}),
    ]:
        assert eval(call, made(name, number)) == expected, name
        assert eval(call, whole) != expected, name
    seen: list[str] = []
    with made("block")["block"](seen):  # type: ignore[operator]
        assert seen == []
    assert eval("Box(3)._hidden()", made("Box.shown")) == "hidden"


def test_name_that_the_file_does_not_have_is_refused() -> None:
    for name in ("third", "Box.third", "is_even.third"):
        with pytest.raises(UnknownCode, match=name):
            list(weakenings(SOURCE, name))


# Trying claims


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with one module and its tests."""
    (tmp_path / "module.py").write_text(SOURCE, "utf-8")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_module.py").write_text(
        "import module\n"
        "def test_two_is_even() -> None:\n    assert module.is_even(2)\n"
        "def test_one_is_one() -> None:\n    assert 1 == 1\n"
        "def test_one_is_two() -> None:\n    assert 1 == 2\n",
        "utf-8",
    )
    return tmp_path


def claim(*tests: str) -> Claim:
    linked = tuple([Code(test, "tests/test_module.py") for test in tests])
    return Claim("Even numbers are found", (Code("is_even", "module.py"),), linked)


def test_break_is_noticed_by_a_test_that_fails_and_the_file_is_as_it_was(folder: Path) -> None:
    (row,) = tried(claim("test_one_is_one", "test_two_is_even"), folder)
    how = "`is_even` returns False (1 other ways were not noticed)"
    assert row == (
        *("Even numbers are found", "[`is_even`](../module.py)"),
        *(how, "[`test_two_is_even`](../tests/test_module.py)"),
    )
    assert (folder / "module.py").read_text("utf-8") == SOURCE


def test_break_that_no_linked_test_notices_is_listed_as_such(folder: Path) -> None:
    tests = claim("test_one_is_one")
    assert broken(tests, tests.code[0], folder) == ("`is_even` returns True; `is_even` returns False", NOTHING)


def test_claim_whose_tests_fail_without_a_break_or_are_not_there_says_nothing(folder: Path) -> None:
    for test in ("test_one_is_two", "test_three"):
        (row,) = tried(claim(test), folder)
        assert row[3] == NOT_RUN
    assert run(claim("test_three").tests, folder) == Verdict(False)


# The document


def test_document_has_a_row_for_each_code_of_each_claim_and_is_what_its_rows_make_it() -> None:
    rows = claims.all_rows()
    assert set(claims.rows_on_file()) == {row[:2] for row in rows}
    assert claims.DOCUMENT.read_text("utf-8") == claims.document(rows)


def test_break_of_each_claim_that_was_tried_was_noticed() -> None:
    assert [row for row in claims.all_rows() if row[3] == NOTHING] == []


def test_every_code_that_a_claim_names_can_be_broken() -> None:
    for each in claims.claims():
        for code in each.code:
            source = (checkout.REPOSITORY / code.file).read_text("utf-8")
            assert next(weakenings(source, code.name, each.sentence), None) is not None, (each.sentence, code.name)
