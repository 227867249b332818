"""`specs/peer-scenarios.md` is complete: every row of the peer list once, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

PEER_LIST = {
    "R": "02 03 04 05 06 08 14 15 16",
    "L": "01 02 04 09 16",
    "X": "01 02 03 04 09 10",
    "E": "01 03 05 07",
    "C": "01 02 03 04 05 06 07 08 09 10 11 12 13 14 15 16 18 19 28 32 35 38 40 42 45 46 50 52 53 54 55",
    "M": "01 02 03 04 05 06 09 10 11",
    "P": "01 03 04 05",
    "H": (
        "02 03 04 05 08 09 10 18 19 27 28 29 30 32 33 34 35 38 39 40 42 44 46 47 48 49 50 51 52 53 "
        "54 55 56 57 58 59 60 61 62 63 64 65 66 67 68 69 70 71 72 74 75 76 77 78 83"
    ),
}
"""The rows of the peer list, which is not part of this repository: letter -> numbers."""

PEER_ROWS = [f"PEER-{letter}{number}" for letter, numbers in PEER_LIST.items() for number in numbers.split()]
REPOSITORY = Path(__file__).parents[2]
PLAYED = REPOSITORY / "tests" / "core"
DOCUMENT = (REPOSITORY / "specs" / "peer-scenarios.md").read_text(encoding="utf-8")
TABLE = re.findall(r"^\| (PEER-[A-Z]\d\d) \| (.+) \| (.+) \|$", DOCUMENT, re.MULTILINE)
DIFFERENCES = re.findall(r"^- \*\*(.+)\*\* .+", DOCUMENT, re.MULTILINE)


def peer_tests() -> set[tuple[str, str]]:
    """(row, file::name) of every test whose name says a row."""
    found = set()
    for file in PLAYED.glob("test_peer_*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_peer_"):
                rows = re.findall(r"_([A-Z]\d\d)(?=_)", node.name)
                found |= {(f"PEER-{row}", f"{file.name}::{node.name}") for row in rows}
    return found


def named(cell: str) -> list[str]:
    """The tests that a cell of the last column names."""
    return re.findall(r"`([^`]+::[^`]+)`", cell)


def test_peer_table_names_every_row_of_the_peer_list_exactly_once() -> None:
    assert len(PEER_ROWS) == len(set(PEER_ROWS)) == 123
    assert Counter(row for row, _, _ in TABLE) == Counter(PEER_ROWS)


def test_peer_table_names_exactly_the_tests_that_there_are() -> None:
    in_table = [(row, test) for row, _, cell in TABLE for test in named(cell)]
    assert Counter(in_table) == Counter(peer_tests())


def test_peer_row_without_a_test_says_why_it_does_not_apply() -> None:
    for row, _, cell in TABLE:
        assert bool(named(cell)) != bool(re.fullmatch(r"does not apply: .{10,}", cell)), row


def test_peer_row_is_marked_as_different_exactly_if_the_difference_is_explained() -> None:
    explained = [row for rows in DIFFERENCES for row in rows.split(", ")]
    assert Counter(explained) == Counter(row for row, says, _ in TABLE if says.endswith(" *"))
