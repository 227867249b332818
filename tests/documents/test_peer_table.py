"""`specs/peer-scenarios.md` is complete: every row of the peer list once, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

PEER_LIST = """
R02 R03 R04 R05 R06 R08 R14 R15 R16 L01 L02 L04 L09 L16 X01 X02 X03 X04 X09 X10 E01 E03 E05 E07
C01 C02 C03 C04 C05 C06 C07 C08 C09 C10 C11 C12 C13 C14 C15 C16 C18 C19 C28 C32 C35 C38 C40 C42 C45 C46 C50 C52 C53 C54
C55 M01 M02 M03 M04 M05 M06 M09 M10 M11 P01 P03 P04 P05
H02 H03 H04 H05 H08 H09 H10 H18 H19 H27 H28 H29 H30 H32 H33 H34 H35 H38 H39 H40 H42 H44 H46 H47 H48 H49 H50 H51 H52 H53
H54 H55 H56 H57 H58 H59 H60 H61 H62 H63 H64 H65 H66 H67 H68 H69 H70 H71 H72 H74 H75 H76 H77 H78 H83
"""
"""The ids of the peer list, which is not part of this repository."""

PEER_ROWS = PEER_LIST.split()
REPOSITORY = Path(__file__).parents[2]
PLAYED = REPOSITORY / "tests" / "core"
DOCUMENT = (REPOSITORY / "specs" / "peer-scenarios.md").read_text(encoding="utf-8")
TABLE = re.findall(r"^\| ([A-Z]\d\d) \| (.+) \| (.+) \|$", DOCUMENT, re.MULTILINE)
DIFFERENCES = re.findall(r"^- \*\*(.+)\*\* .+", DOCUMENT, re.MULTILINE)


def peer_tests() -> set[tuple[str, str]]:
    """(row, file::name) of every test whose name says a row."""
    found = set()
    for file in PLAYED.glob("test_peer_*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                rows = re.findall(r"_([A-Z]\d\d)(?=_)", node.name)
                found |= {(row, f"{file.name}::{node.name}") for row in rows}
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
