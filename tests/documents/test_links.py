"""Every link in every document leads to a file, and in it to what it names: a heading, a function, a test."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FOLDERS = ("statemachine", "model", "tests", "bench", "specs")
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.md"))]
)

INLINE = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
REFERENCE = re.compile(r"\[([^\]]+)\](?![(:\]])")
DEFINITION = re.compile(r"^\[([^\]]+)\]: (\S+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def prose(path: Path) -> str:
    """The document without fenced blocks, and without what in code looks like a link."""
    return CODE.sub(lambda code: code[0].replace("](", "] ("), FENCED.sub("", path.read_text("utf-8")))


def links(text: str) -> list[tuple[str, str]]:
    """(text, target) of every link of a document's prose to a place in the repository."""
    return [
        (text, target) for text, target in [*INLINE.findall(text), *DEFINITION.findall(text)] if "://" not in target
    ]


def anchor(heading: str) -> str:
    """What a heading is linked by."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


@cache
def anchors(path: Path) -> frozenset[str]:
    """Every heading of a document, as it is linked."""
    return frozenset(anchor(heading) for heading in re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE))


@cache
def names_in(path: Path) -> frozenset[str]:
    """Every function, class, method (`Class.method`) and global name that a module defines."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, FUNCTION | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, FUNCTION)}
        targets = (
            [node.target] if isinstance(node, ast.AnnAssign) else node.targets if isinstance(node, ast.Assign) else []
        )
        found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return frozenset(found)


def fault_of(document: Path, text: str, target: str) -> str | None:
    """Why a link leads nowhere, if it does."""
    file, _, fragment = target.partition("#")
    path = (document.parent / file).resolve() if file else document
    if not path.exists():
        return "there is no such file"
    if fragment and (path.suffix != ".md" or fragment not in anchors(path)):
        return "the file has no such heading"
    named = re.fullmatch(r"`([\w.]+)`", text)
    if path.suffix == ".py" and named is not None and named[1] != path.name:
        if path.name.startswith("test_") and not named[1].startswith("test_"):
            return "what it names is not a test"
        return None if named[1] in names_in(path) else f"{path.name} does not have it"
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_link_in_a_document_leads_to_a_file_that_has_what_it_names(document: Path) -> None:
    found = [(text, target, fault_of(document, text, target)) for text, target in links(prose(document))]
    assert [fault for fault in found if fault[2] is not None] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_document_has_no_place_that_is_still_to_be_filled_in(document: Path) -> None:
    assert re.findall(r"@@\w*@@|\bTODO\b|\bTBD\b|\bFIXME\b", prose(document)) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_reference_in_a_document_is_defined_and_every_definition_is_used(document: Path) -> None:
    text = prose(document)
    defined = {name for name, _ in DEFINITION.findall(text)}
    used = set(REFERENCE.findall(CODE.sub("", DEFINITION.sub("", text))))
    assert defined <= used
    assert {name for name in used - defined if re.fullmatch(r"[A-Z]\d+", name)} == set()


@pytest.mark.parametrize(
    ("text", "target", "fault"),
    [
        ("it", "semantics.md", None),
        ("it", "semantics.md#6-properties", None),
        ("it", "#joint-rules", None),
        ("it", "#7-nothing", "the file has no such heading"),
        ("it", "nothing.md", "there is no such file"),
        ("`Session.handle`", "../tests/documents/test_links.py", "what it names is not a test"),
        ("`test_nothing`", "../tests/documents/test_links.py", "test_links.py does not have it"),
        ("`fault_of`", "../pyproject.toml#a", "the file has no such heading"),
    ],
)
def test_fault_of_a_link_says_what_is_missing(text: str, target: str, fault: str | None) -> None:
    assert fault_of(REPOSITORY / "specs" / "semantics.md", text, target) == fault


def test_code_that_looks_like_a_link_is_not_one(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("`a[b](c)` and [`d`](e), [`f`](g)\n", "utf-8")
    assert links(prose(document)) == [("`d`", "e"), ("`f`", "g")]


def test_anchor_of_a_heading_is_what_it_is_linked_by() -> None:
    assert anchor("D2 With `LIVE_THREADS`, a death closes the agent") == "d2-with-live_threads-a-death-closes-the-agent"
    assert anchor("`start` is the host's `follow_up`") == "start-is-the-hosts-follow_up"


def test_paths_in_contributing_are_there() -> None:
    named = re.findall(r"`([\w.]+/[\w./]*)`", (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8"))
    assert len(named) > 30
    assert [path for path in named if path != "build/api" and not (REPOSITORY / path).exists()] == []
