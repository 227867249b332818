"""Reading values of our classes with msgspec, and nothing else than them.

msgspec takes an attrs class as it is, and checks types strictly. But it passes over fields that the class does not
have, and fills in a default for one that is missing, and a class of ours cannot forbid it. A class of its own can. So
each class has a *shape*, a struct with the same fields, and what is read has to fit that first: it is read twice, which
still takes half the time of reading once by hand (`bench/README.md`).

msgspec looks at the slots of a class itself: a field that is inherited would not be written.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs
import msgspec

__all__ = ["Reader", "fields_of", "shape_of", "tuple_of"]


class Reader:
    """Reads values of one type: an attrs class, or a union or tuple of types. All methods raise `ValueError`,
    `TypeError` or `RecursionError` for what is not such a value.
    """

    def __init__(self, kind: Any, whole: bool = True) -> None:
        """`whole`: no field may be missing. Otherwise those may that have a default."""
        self.kind, self.shape = kind, shape_of(kind, whole)
        self.check = msgspec.json.Decoder[Any](self.shape).decode
        """Raises as `decode` does, and takes half the time."""
        self.decode_only = msgspec.json.Decoder[Any](self.kind).decode
        """The value of a JSON text that was checked."""

    def decode(self, text: str) -> Any:
        """The value of this JSON text."""
        self.check(text)
        return self.decode_only(text)

    def convert(self, found: Any) -> Any:
        """The value that these dicts, lists and texts say."""
        msgspec.convert(found, self.shape)
        return msgspec.convert(found, self.kind)


def fields_of(kind: Any) -> dict[str, Any]:
    """The fields of an attrs class in their order, each with its type."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in attrs.fields(kind)}


def tuple_of(types: Iterable[Any]) -> Any:
    """The type of a tuple with exactly these."""
    return tuple.__class_getitem__(tuple(types))


def shape_of(kind: Any, whole: bool = True) -> Any:
    """The type of whatever has exactly the fields of this one (see `Reader`)."""
    if isinstance(kind, type) and attrs.has(kind):
        defaults: dict[str, Any] = {} if whole else {field.name: field.default for field in attrs.fields(kind)}
        fields: list[Any] = []
        for name, of in fields_of(kind).items():
            default = defaults.get(name, attrs.NOTHING)
            fields.append((name, shape_of(of, whole), *([] if default is attrs.NOTHING else [default])))
        return msgspec.defstruct(kind.__name__, fields, kw_only=True, forbid_unknown_fields=True)
    if get_origin(kind) is tuple:
        return tuple_of([shape_of(part, whole) for part in get_args(kind)])
    if get_origin(kind) in (UnionType, Union):
        return Union[tuple(shape_of(part, whole) for part in get_args(kind))]  # noqa: UP007  (of types known later)
    return kind
