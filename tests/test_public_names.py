"""Public names: all of them can be imported from `statemachine`, and all errors from `statemachine.errors`."""

from __future__ import annotations

import inspect
import pkgutil
import typing
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

import statemachine
import statemachine.errors
import statemachine.runtime
import statemachine.stores
from statemachine.runtime import AgentControl, Handle, Thread, Turn

PACKAGES = (statemachine, statemachine.errors, statemachine.runtime, statemachine.stores)
INTERNAL_ERRORS = {
    *(
        "ClientLeft",
        "EncodingError",
        "Fenced",
        "HandOver",
        "Later",
        "Moved",
        "NoReader",
        "ScopeLeftEntered",
        "WrongFacts",
    ),
    "WrongShape",
}
"""No caller names these: they are tried again, or in another way, or become a `NotJson`, `Unstorable`, `StoreCorrupt`
or `SessionInUse`, or a report of a thread; or they are known as what they are derived from, as `SessionClosed`.
"""


def modules() -> Iterator[ModuleType]:
    """Every module of the product."""
    for found in pkgutil.walk_packages(statemachine.__path__, "statemachine."):
        yield import_module(found.name)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_is_there_once_and_in_the_list_of_the_module_that_defines_it(package: Any) -> None:
    names: list[str] = package.__all__
    assert len(names) == len(set(names))
    homes = 0
    for name in names:
        found = getattr(package, name)
        home = getattr(found, "__module__", "")
        if home.startswith("statemachine"):
            homes += 1
            assert name in import_module(home).__all__, f"{home} does not list {name}"
        assert name in dir(package)
    assert homes > len(names) / 2


def test_name_that_is_public_in_a_package_can_be_imported_from_the_top_or_with_the_errors() -> None:
    for package in (statemachine.runtime, statemachine.stores):
        for name in package.__all__:
            top: Any = statemachine.errors if name in statemachine.errors.__all__ else statemachine
            assert getattr(top, name) is getattr(package, name), name


def test_every_error_is_among_the_errors() -> None:
    defined = {
        name: found
        for module in modules()
        for name, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, BaseException) and found.__module__ == module.__name__
    }
    assert set(defined) - INTERNAL_ERRORS == set(statemachine.errors.__all__)
    assert set(defined) >= INTERNAL_ERRORS
    for name in statemachine.errors.__all__:
        assert getattr(statemachine.errors, name) is defined[name]


def test_name_that_is_not_public_is_missing_in_the_words_of_python() -> None:
    for module in (statemachine, statemachine.errors):
        with pytest.raises(AttributeError, match=rf"^module '{module.__name__}' has no attribute 'SQLStore'$"):
            _ = module.SQLStore


def parts(hint: Any) -> Iterator[Any]:
    """The classes that an annotation is made of."""
    yield hint
    for part in typing.get_args(hint):
        if not isinstance(part, list):
            yield from parts(part)


@pytest.mark.parametrize("cls", [AgentControl, Turn, Thread, Handle], ids=lambda cls: cls.__name__)
def test_whatever_a_method_takes_or_returns_can_be_imported_from_the_top(cls: type) -> None:
    seen = 0
    for name, method in inspect.getmembers(cls, callable):
        if name.startswith("_"):
            continue
        for hint in typing.get_type_hints(inspect.unwrap(method)).values():
            for part in parts(hint):
                if getattr(part, "__module__", "").startswith("statemachine") and isinstance(part, type):
                    seen += 1
                    assert getattr(statemachine, part.__name__) is part, f"{cls.__name__}.{name}: {part}"
    assert seen
