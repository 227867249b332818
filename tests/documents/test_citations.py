"""Every id that code, tests and documents cite leads to its line.

| id | its line |
| --- | --- |
| S1, L1 | a row of section 6 of specs/semantics.md |
| J1, N1 | an entry of the joint rules and residency rules there |
| section 1, theorem 1 | a heading, a paragraph there |
| D1 | a heading of specs/decisions.md |
| BUG-B01, BUG-D02 | a row of specs/field-bugs.md |
| PEER-R02, and `peer_R02` in the name of a test | a row of specs/peer-scenarios.md |
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SPECS = REPOSITORY / "specs"
FOLDERS = ("statemachine", "model", "tests", "bench", "specs")
KINDS = (".py", ".md", ".txt", ".rst")

ID = re.compile(r"(?<![\w-])(?:(?:BUG|PEER)-)?[A-Z]\d{1,2}(?!\w)")
ROWS_IN_A_NAME = re.compile(r"peer((?:_[A-Z]\d\d)+)(?=_)")
IN_A_NAME = re.compile(r"(?<=_)[A-Z]\d\d(?=_)")
SECTIONS = re.compile(r"\bsections? (\d)(?:(?:, | and | to )(\d))*")
THEOREMS = re.compile(r"\btheorems? (\d)", re.IGNORECASE)
NOT_IDS = {"V1", "V2", "S0", "S99", "C0", "C1", "Z3"}
"""The two generations of the peer (specs/peer-scenarios.md), properties that tests make up, and the prover."""


def text_of(name: str) -> str:
    return (SPECS / name).read_text("utf-8")


def lines_of_ids() -> list[str]:
    """Every id that has a line of its own, as often as it has one."""
    semantics, properties = text_of("semantics.md"), text_of("semantics.md").partition("## 6. Properties")[2]
    return [
        *re.findall(r"^\| ([SL]\d+) \|", properties, re.MULTILINE),
        *re.findall(r"^- \*\*([JN]\d)\*\* ", semantics, re.MULTILINE),
        *re.findall(r"^\| (H\d) \|", text_of("leases.md"), re.MULTILINE),
        *re.findall(r"^## (D\d+) ", text_of("decisions.md"), re.MULTILINE),
        *re.findall(r"^\| (BUG-[BD]\d\d) \|", text_of("field-bugs.md"), re.MULTILINE),
        *re.findall(r"^\| (PEER-[A-Z]\d\d) \|", text_of("peer-scenarios.md"), re.MULTILINE),
    ]


def files() -> Iterator[Path]:
    """Everything that people read and that may cite."""
    yield from sorted(REPOSITORY.glob("*.md"))
    for folder in FOLDERS:
        found = (path for path in (REPOSITORY / folder).rglob("*") if path.suffix in KINDS)
        yield from sorted(path for path in found if path.name != Path(__file__).name)


def cited_in(text: str) -> set[str]:
    """The ids in a text. In the name of a test, `peer_` is the prefix of the rows that follow it."""
    rows = {f"PEER-{row}" for rows in ROWS_IN_A_NAME.findall(text) for row in IN_A_NAME.findall(f"{rows}_")}
    return {*ID.findall(text), *rows, *IN_A_NAME.findall(ROWS_IN_A_NAME.sub("", text))} - NOT_IDS


@cache
def citations() -> dict[str, list[str]]:
    """Id -> the files that cite it. What a line of an id itself says of it is no citation."""
    found: dict[str, list[str]] = {}
    for path in files():
        text = path.read_text("utf-8")
        if path == SPECS / "field-bugs.md":
            text = re.sub(r"^\| BUG-[BD]\d\d \|", "", text, flags=re.MULTILINE)
        for id_ in cited_in(text):
            found.setdefault(id_, []).append(str(path.relative_to(REPOSITORY)))
    return found


def test_every_id_that_is_cited_has_its_line() -> None:
    known = set(lines_of_ids())
    lost = {id_: where for id_, where in citations().items() if id_ not in known}
    assert lost == {}, "give each a line, or cite what has one"


def test_no_id_has_two_lines() -> None:
    lines = lines_of_ids()
    assert len(lines) == len(set(lines)) > 200


def test_every_bug_on_file_is_cited() -> None:
    cited = citations()
    assert [id_ for id_ in lines_of_ids() if id_.startswith("BUG-") and id_ not in cited] == []


def test_sections_and_theorems_that_are_cited_are_there() -> None:
    semantics = text_of("semantics.md")
    sections = set(re.findall(r"^## (\d)\. ", semantics, re.MULTILINE))
    theorems = set(re.findall(r"^\*\*Theorem (\d)", semantics, re.MULTILINE))
    assert sections == set("1234567")
    assert theorems == set("1234")
    for path in files():
        text = path.read_text("utf-8")
        cited = {number for found in SECTIONS.finditer(text) for number in re.findall(r"\d", found[0])}
        assert cited <= sections, path
        assert set(THEOREMS.findall(text)) <= theorems, path


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("S1, J2; BUG-B06 (D7)", {"S1", "J2", "BUG-B06", "D7"}),
        ("def test_peer_C03_H05_spawn_is_refused", {"PEER-C03", "PEER-H05"}),
        ("def test_C03_spawn_is_refused", {"C03"}),
        ("def s1_cap", set()),
        ("(V1) a/S15.", {"S15"}),
        ("B06 and E402, 1.E07, S1x", {"B06", "E07"}),
        ("PEER-L01 is not L01, nor is L1", {"PEER-L01", "L01", "L1"}),
    ],
)
def test_ids_are_found_in_prose_and_in_names(text: str, cited: set[str]) -> None:
    assert cited_in(text) == cited
