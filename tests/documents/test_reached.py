"""specs/reached.md lists all that must be reached, and says how often it was."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from model.coverage import required
from model.documents import reached as document
from model.exploration.explorer import explore
from model.exploration.scopes import find

REPOSITORY = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?P<name>[^|]+?) \| (?:.* \| )?(?P<explored>[\d,]+) \| (?P<fuzzed>[\d,]+) \|$", re.MULTILINE)


def reached() -> dict[str, tuple[int, int]]:
    """What the document says."""
    text = document.DOCUMENT.read_text("utf-8")
    return {
        row["name"]: (int(row["explored"].replace(",", "")), int(row["fuzzed"].replace(",", "")))
        for row in ROW.finditer(text)
    }


def test_document_lists_everything_that_must_be_reached_and_all_of_it_was() -> None:
    told = reached()
    assert sorted(told) == sorted(required())
    assert [name for name, (explored, fuzzed) in told.items() if not explored + fuzzed] == []


def test_document_counts_at_least_what_the_smallest_scope_reaches_today() -> None:
    told = reached()
    found = explore(find("reject")).coverage
    assert [name for name in told if told[name][0] < found[name]] == []


@pytest.mark.nightly
def test_document_says_what_a_check_reaches_today() -> None:
    # In a process of its own, as the document was written: what the fuzz draws depends on the modules that are loaded.
    command = [sys.executable, "-m", "model.documents.reached"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert document.DOCUMENT.read_text("utf-8") == ran.stdout, "run `python -m model.documents.reached --write`"
