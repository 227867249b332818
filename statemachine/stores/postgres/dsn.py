"""Takes a DSN apart: which database, which session, and how it is told without a password."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from attrs import field, frozen

from statemachine.stores import options
from statemachine.stores.errors import SessionUnnamed, StoreUnreachable
from statemachine.stores.naming import NAME_MAX, check_name

PASSWORD = re.compile(r"(?<=://)([^/?#@:]*):[^/?#@]*(?=@)")


@frozen
class Dsn:
    """The names of a session and of the database that has it."""

    database: str = field(repr=False)
    """How to connect to the database, with a password, if there is one in it."""
    session: str
    shown: str
    """The whole DSN without a password, for errors."""


def dsn_of(text: str) -> Dsn:
    """Takes a DSN apart. Raises `SessionUnnamed`, `StoreUnreachable` for what is not a DSN, and `TypeError` for what is
    not a text.
    """
    text = options.text(text, "dsn", "as postgresql://user@host/database?session=NAME")
    shown = without_password(text)
    try:
        parts = urlsplit(text)
        words = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        text.encode()
    except ValueError as error:
        raise StoreUnreachable(repr(shown)[1:-1][:NAME_MAX], f"this is not a DSN ({error})") from None
    names = [value for word, value in words if word == "session"]
    if len(names) != 1 or not names[0]:
        problem = "it names no session" if not any(names) else "it names more than one session"
        raise SessionUnnamed(shown, problem)
    name = names[0]
    check_name(shown, name)
    rest = urlencode([(word, value) for word, value in words if word != "session"], quote_via=quote)
    database = f"{parts.scheme}://{parts.netloc}{parts.path}"
    return Dsn(f"{database}?{rest}" if rest else database, name, shown)


def without_password(text: str) -> str:
    """Returns the DSN as it may be told."""
    head, mark, query = PASSWORD.sub(r"\1", text).partition("?")
    kept = [word for word in query.split("&") if not word.lower().startswith(("password=", "sslpassword="))]
    return head + mark + "&".join(kept)


def with_session(database: str, session: str) -> str:
    """Returns the DSN of a session in the database that this DSN names. Raises `TypeError` for what is not a text."""
    session = options.text(session, "session", "the name of a session")
    return f"{database}{'&' if '?' in database else '?'}session={quote(session, safe='')}"
