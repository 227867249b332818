"""Names of sessions as names of files: any name that can be printed, and back."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine.errors import SessionUnnamed
from statemachine.hosting.file_names import BYTES_MAX, INDEX, SUFFIX, TAKEN, file_of, name_of


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("orders-17", "orders-17.db"), ("Orders 17", "%4frders%2017.db"), ("../x", "%2e%2e%2fx.db"),
        ("..", "%2e%2e.db"), (".", "%2e.db"), ("/etc/passwd", "%2fetc%2fpasswd.db"), ("CON", "%43%4f%4e.db"),
        ("con", "%63on.db"), ("con.txt", "con%2etxt.db"), ("host", "%68ost.db"), ("Host", "%48ost.db"),
        ("-rf", "%2drf.db"), ("a-", "a-.db"), ("%2e", "%252e.db"), ("Straße", "%53tra%c3%9fe.db"),
        ("a.db-wal", "a%2edb-wal.db"), ("~", "%7e.db"), ("x" * 200, "x" * 200 + ".db"),
    ],
)  # fmt: skip
def test_name_is_written_as_a_file_of_the_folder_and_read_back(name: str, file: str) -> None:
    assert file_of("/f", name) == f"/f/{file}"
    assert name_of(file) == name


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "\ud800", "x" * 201, "語" * 27, "X" * 81, "\u202e"])
def test_name_that_no_session_has_or_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(SessionUnnamed, match="give it 1 to 200 characters"):
        file_of("/f", name)


@pytest.mark.parametrize(
    "file",
    ["a", "a.DB", "A.db", ".db", "host.db", "con.db", "a.b.db", "%61.db", "%2E.db", "%2.db", "%ff.db", "a.db-wal",
     "a.db.lock", "..db", "-a.db", "ü.db", "%00.db", "%68ost.db-wal"],
)  # fmt: skip
def test_file_that_no_name_makes_is_not_a_session(file: str) -> None:
    assert name_of(file) is None


@given(st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=2, unique=True))
def test_names_have_files_of_their_own_whatever_the_file_system_folds(names: list[str]) -> None:
    files = set[str]()
    for name in names:
        try:
            path = file_of("/f", name)
        except SessionUnnamed:
            files.add(f"none for {name!r}")
            continue
        file = os.path.basename(path)
        assert (os.path.dirname(path), name_of(file)) == ("/f", name)
        assert file.isascii()
        assert file == file.lower()
        assert len(file) <= BYTES_MAX + len(SUFFIX)
        assert file.removesuffix(SUFFIX) not in {INDEX, *TAKEN}
        files.add(file)
    assert len(files) == len(names)
