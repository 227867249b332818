"""The command `leases`: what it prints, and that it fails if a property, a count or a defect is not as it should be."""

from __future__ import annotations

import json

import pytest

from model.command import leases
from model.leases.defects import DEFECTS
from model.leases.scopes import GOLDEN, find
from model.leases.world import Protocol

KEEPS_ROW = tuple(defect for defect in DEFECTS if defect.name == "KeepsRow")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "SCOPES", (find("restart"), find("pair")))
    monkeypatch.setattr(leases, "DEFECTS", KEEPS_ROW)


def run(capsys: pytest.CaptureFixture[str], *, defects: bool = False, as_json: bool = False) -> tuple[object, str]:
    """Exit code and output of the command, without its long scopes."""
    with pytest.raises(SystemExit) as stopped:
        leases.leases(long=False, defects=defects, as_json=as_json)
    return stopped.value.code, " ".join(capsys.readouterr().out.split())


def test_all_is_well_and_long_scopes_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys)
    assert code == 0
    assert "H8" in said
    assert "FAILED" not in said
    assert "restart" in said
    assert "pair" not in said
    assert "KeepsRow" not in said


def test_json_has_scopes_and_who_notices_a_defect(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, defects=True, as_json=True)
    found = json.loads(said)
    assert code == 0
    assert found["held"] is True
    assert [(scope["name"], scope["broken"]) for scope in found["scopes"]] == [("restart", [])]
    assert found["defects"] == {"KeepsRow": ["H2"]}


def test_property_that_does_not_hold_fails_with_its_story(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Protocol, "is_done", lambda *_: True)
    monkeypatch.setattr(leases, "SCOPES", (find("restart"),))
    code, said = run(capsys)
    assert code == 1
    assert "FAILED" in said
    assert "H5: session 0 has an ask and counts as idle" in said
    assert "worker 0 leaves session 0, which is idle" in said


def test_count_that_is_not_golden_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GOLDEN, "restart", (1, 2))
    code, said = run(capsys)
    assert code == 1
    assert "scope 'restart' has" in said
    assert "should have (1, 2)" in said


def test_defect_that_goes_unnoticed_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KEEPS_ROW[0].protocol, "connect", Protocol.connect)
    code, said = run(capsys, defects=True)
    assert code == 1
    assert "defect KeepsRow is noticed by (), and should be by ('H2',)" in said
