"""Says which file of a folder has the session with a name, and back.

A name may be any text that can be printed: `../x`, `CON`, `Straße`. A file name here has small letters, digits, `_` and
`-` alone, and what else a name has as `%` and the bytes of UTF-8, in hexadecimal digits: `%2e%2e%2fx.db`. So it has no
separator and no dot but the last, is the same on file systems that fold case or compose letters, and is read back
without a table. The first character is written so, too, if it is a `-`, which commands take for an option, or if the
name is that of a device elsewhere, or of the host's own file.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote_to_bytes

from statemachine.stores.errors import SessionUnnamed
from statemachine.stores.naming import check_name

SUFFIX = ".db"
BYTES_MAX = 240
"""The longest name of a file without `SUFFIX`, in bytes: file systems take 255, and SQLite and the lock add some."""
INDEX = "host"
"""What the host's own file is called."""
TAKEN = {INDEX, "con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
UNSAFE = re.compile(r"[^a-z0-9_-]|^-")


def file_of(folder: str, name: str) -> str:
    """Returns the path of the session with this name. Raises `SessionUnnamed` for what is not a name, or makes a name
    of a file that is too long.
    """
    check_name(os.path.join(folder, "?"), name)
    written = f"{_escaped(name[0])}{name[1:]}" if name in TAKEN else UNSAFE.sub(lambda found: _escaped(found[0]), name)
    if len(written) > BYTES_MAX:
        problem = f"{name!r:.100} takes {len(written)} bytes as the name of a file"
        raise SessionUnnamed(os.path.join(folder, "?"), problem)
    return os.path.join(folder, f"{written}{SUFFIX}")


def name_of(file: str) -> str | None:
    """Returns the name of the session that a file of this name has; None: no session has such a file."""
    written = file.removesuffix(SUFFIX)
    try:
        name = unquote_to_bytes(written).decode()
        return name if written != file and os.path.basename(file_of("", name)) == file else None
    except (UnicodeError, SessionUnnamed):
        return None


def _escaped(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())
