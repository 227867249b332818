"""Planted defects of the lease protocol: each is noticed by the properties that are said to, and by no other."""

from __future__ import annotations

import pytest
from attrs import evolve

from model.leases.defects import DEFECTS, Defect, NoRaiseByBurial, OwnLease
from model.leases.explore import explore, story
from model.leases.properties import PROPERTIES
from model.leases.scopes import find

SLOW = ("NoLock", "OwnLease", "HastyLeave", "PatientDrain")
CASES = [
    pytest.param(defect, marks=pytest.mark.nightly if defect.name in SLOW else (), id=defect.name) for defect in DEFECTS
]


@pytest.mark.parametrize("defect", CASES)
def test_defect_is_noticed_by_the_properties_that_are_said_to(defect: Defect) -> None:
    found = explore(defect.scope, defect.protocol, finds_all=True)
    assert tuple(sorted(fault.property.id for fault in found.faults)) == defect.noticed_by


def test_every_property_notices_a_defect() -> None:
    noticed = {known for defect in DEFECTS for known in defect.noticed_by}
    assert noticed == {known.id for known in PROPERTIES}


def test_append_without_a_lock_is_noticed_first_where_it_commits() -> None:
    (defect,) = (defect for defect in DEFECTS if defect.name == "NoLock")
    (fault,) = explore(defect.scope, defect.protocol).faults
    assert fault.property.id == "H1"
    assert [event.name for event, _ in fault.path].count("append") == 1
    assert fault.path[-1][0].name == "commit"


STORY = """\
H1: worker 0 commits, but session 0 belongs to no worker
  a caller asks for session 0
  worker 0 beats, buries the dead, and counts
  a tick of the database's clock
  a tick of the database's clock
  worker 0 claims, gives or leaves sessions
  worker 0 opens session 0
  worker 1 beats, buries the dead, and counts
  worker 0 sends an append to session 0
  the database commits the append of worker 0 to session 0"""


def test_story_of_a_fault_says_event_after_event_with_names_that_stay() -> None:
    (fault,) = explore(find("late"), NoRaiseByBurial).faults
    lines = story(fault, NoRaiseByBurial(find("late"))).splitlines()
    assert "\n".join(line for line in lines if not line.startswith("      ")) == STORY
    assert lines[-3] == (
        "      w0 absent, silent for 0; w1 serving, silent for 0, counted a share of 1;"
        " s0 wanted, epoch 1, 1 asked, w0 has it open with 1, w0 appends with 1"
    )


@pytest.mark.nightly
def test_lease_by_the_clock_of_a_worker_is_safe_only_as_long_as_that_clock_is_right() -> None:
    scope = evolve(find("late"), rates=(1, 1))
    assert explore(scope, OwnLease).faults == ()
    (fault,) = explore(evolve(scope, rates=(0, 1)), OwnLease).faults
    assert fault.property.id == "H1"
