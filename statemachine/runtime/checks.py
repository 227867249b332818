"""Values of callers, looked at before they are part of an event: the core takes them for what they say they are, and a
value of another type would be a defect there, which fails the session. A value of a class derived from the right one
becomes one of the right class itself (`core/exact.py`), because that is what is read again, and because its methods
could raise in the core. What goes into the log is bounded here, too (`stores/limits.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

from statemachine.core.events import HOST, WaitMode
from statemachine.core.exact import class_name, number, said, shown, text, whole
from statemachine.core.facts import Json, Result
from statemachine.core.refusals import InvalidHeaders
from statemachine.core.rules import HEADERS_BYTES_MAX
from statemachine.runtime.errors import NotJson, TooLarge, words
from statemachine.runtime.handles import AgentRef
from statemachine.runtime.settings import check_size, json_text, size_least
from statemachine.stores import limits
from statemachine.stores.encoding import EncodingError, parse, to_json
from statemachine.stores.limits import Limit

NUMBER_MAX = 2**63 - 1
"""No id and no number of a mail is as large."""
HEADERS_MEASURED = 4 * HEADERS_BYTES_MAX
"""Of headers with so many bytes the exact size is told."""


def text_of(value: object, limit: Limit) -> str:
    """The text. Raises `TypeError` for what is not one, and `TooLarge`."""
    if type(value) is str and len(value) <= limit.length_fits:
        return value  # as nearly always
    found = text(value)
    if found is None:
        raise TypeError(f"{limit.what} is a text, not {shown(value)}")
    size = limit.excess(found)
    if size is not None:
        raise TooLarge(limit.what, size, limit.bytes_max)
    return found


def key_of(value: object) -> str:
    """The text of a key. Raises as `text_of`, and `ValueError` for an empty one: a variable that was never set would
    make one request of many.
    """
    found = text_of(value, limits.KEY)
    if not found:
        raise ValueError("a key is a text that is not empty; leave it out if the request has none")
    return found


def reason_of(value: object) -> str:
    """The text of a reason, or as much of it as is stored. Raises `TypeError` for what is not one."""
    if issubclass(type(value), BaseException):
        return words(cast("BaseException", value))
    found = text(value)
    if found is None:
        raise TypeError(f"a reason is a text or an exception, not {shown(value)}")
    return limits.cut(found)


def number_of(value: object) -> int | None:
    """The whole number, or None for what is not one. One beyond all ids and numbers of mails becomes another such."""
    if type(value) is int and -NUMBER_MAX <= value <= NUMBER_MAX:
        return value
    found = whole(value)
    return None if found is None else max(-NUMBER_MAX, min(found, NUMBER_MAX))


def sender_of(value: object) -> int:
    """The sender. Raises `TypeError` for what is not an agent's id."""
    if value is HOST:
        return HOST
    found = number_of(value)
    if found is None:
        raise TypeError(f"a sender is an agent's id, or HOST, not {shown(value)}")
    return found


def seconds_of(value: object) -> float:
    """The number of seconds. Raises `TypeError` for what is not one."""
    found = number(value)
    if found is None:
        raise TypeError(f"a timeout is a number of seconds, not {shown(value)}")
    try:
        return float(found)
    except OverflowError:
        return math.inf if found > 0 else -math.inf  # which is refused likewise


def several(values: object, what: str) -> tuple[object, ...]:
    """The parts of a tuple, or of anything else that has parts. Raises `TypeError` for one that stands alone."""
    if type(values) is tuple:
        return cast("tuple[object, ...]", values)
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{what} are given as a tuple, not as {shown(values)}")
    return tuple(cast("Iterable[object]", values))


def mode_of(value: object) -> WaitMode:
    """The mode of a wait. Raises `TypeError` for what is not one."""
    if type(value) is not WaitMode:
        raise TypeError(f"a mode is WaitMode.ANY or WaitMode.ALL, not {shown(value)}")
    return value


def count_of(value: object, what: str, least: int = 1) -> int:
    """The number. Raises `TypeError` for what is not a whole number, and `ValueError` for one below `least`."""
    found = number_of(value)
    if found is None:
        raise TypeError(f"{what} is a whole number, not {shown(value)}")
    if found < least:
        raise ValueError(f"{what} is at least {least}, not {shown(value)}")
    return found


def headers_of(value: object) -> str | None:
    """The headers as the core carries them; without any, None. Raises `InvalidHeaders` for what is not an object of
    JSON; whether it is too large, the core says.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidHeaders(f"a value of class {class_name(value)}", None, HEADERS_BYTES_MAX)
    try:
        found = dict(cast("Mapping[str, Any]", value))
        size = size_least(found, HEADERS_MEASURED)
        if size <= HEADERS_MEASURED:
            return json_text(found) if found else None
    except (NotJson, EncodingError) as error:
        problem = error.problem if isinstance(error, NotJson) else str(error)
        raise InvalidHeaders(f"what JSON does not have ({problem})", None, HEADERS_BYTES_MAX) from None
    except Exception as error:  # of the mapping itself
        problem = f"a mapping that raises {class_name(error)} ({said(error):.100})"
        raise InvalidHeaders(problem, None, HEADERS_BYTES_MAX) from None
    raise InvalidHeaders(f"one of at least {size} bytes", size, HEADERS_BYTES_MAX)


def reference_of(value: object) -> AgentRef:
    """The reference. Raises `TypeError` for what is not one."""
    if isinstance(value, AgentRef):
        agent, mail = number_of(value.id), number_of(value.mail)
        if agent is not None and mail is not None:
            return AgentRef(agent, text_of(value.path, limits.PATH), mail)
    raise TypeError(f"a reference is an AgentRef, as Handle.ref is, not {shown(value)}")


def result_of(value: object) -> Result:
    """Returns the result of a turn as the core has it. Raises `ValueError` if it is not a JSON value, and `TooLarge`
    if no store can hold it.
    """
    limit = limits.RESULT
    if type(value) is str and len(value) <= limit.length_fits:
        return value
    found = text(value)
    if found is not None:
        result: Result = found
        size = limit.excess(found)
    else:
        try:
            check_size(value, limit)
            result = Json(parse(to_json(value)))
        except EncodingError as error:
            raise ValueError(f"a turn returned {error}") from None
        size = limit.excess(result.text)
    if size is not None:
        raise TooLarge(limit.what, size, limit.bytes_max)
    return result
