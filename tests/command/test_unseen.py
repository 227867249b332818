"""Characters that cannot be seen pass no filter of what is printed or logged (harm, kind 10)."""

from __future__ import annotations

import logging
import sys
import unicodedata

import pytest

from model import printing
from statemachine import sinks

IGNORABLE_COUNT = 4_174
"""Code points with `Default_Ignorable_Code_Point`, as Unicode 17.0 counts them."""
MENTIONED = "\u034f\ufe0f\U000e0100\u3164\u115f\u1160\uffa0\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u2800\U0001d159"
SPACES = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) == "Zs"]
ALL = "".join(map(chr, range(sys.maxunicode + 1)))


@pytest.mark.parametrize("character", MENTIONED)
def test_character_that_looks_like_nothing_is_escaped_by_commands_and_in_logs(character: str) -> None:
    number = ord(character)
    expected = f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
    assert printing.printable(f"a{character}b") == f"a{expected}b"
    assert sinks.visible(f"日{character}\nb") == f"日{expected}\nb"


def test_bytes_hidden_in_variation_selectors_are_seen() -> None:
    hidden = "".join(chr(0xFE00 + byte if byte < 16 else 0xE0100 + byte - 16) for byte in range(256))
    assert sinks.visible(f"x{hidden}").isascii()


def test_every_ignorable_code_point_is_escaped_and_there_are_as_many_as_unicode_says() -> None:
    found = [c for c in ALL if sinks.UNSEEN.match(c)]
    blank = sum(ord(c) in (0x2800, 0x13441, 0x13442, 0x16FE4, 0x1D159) for c in found)
    assert (len(found) - blank, blank) == (IGNORABLE_COUNT, 5)
    assert all(sinks.visible(c) == sinks.escaped(c) for c in found)


def test_format_characters_are_escaped_whatever_python_takes_for_printable() -> None:
    formats = [c for c in ALL if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") and c != "\n"]
    assert [c for c in formats if sinks.visible(c) == c] == []


def test_text_that_is_seen_stays_as_it_is() -> None:
    for text in ("plain", "two\nlines", "été", "e\u0301", "日本語", "مرحبا", "ไทย", "한국어", "🙂", *SPACES):
        assert sinks.visible(text) == printing.printable(text) == text


def test_each_character_is_seen_alone_as_among_others() -> None:
    alone = "".join(map(printing.printable, ALL))
    assert printing.printable(ALL) == alone


def test_log_escapes_what_cannot_be_seen_in_a_message_and_keeps_the_arguments_of_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "statemachine"):
        sinks.log.warning("path %s", "a\x1b]0;b\x07\ufe0f")
        sinks.log.warning("path %s", "plain")
    assert [record.getMessage() for record in caplog.records] == ["path a\\x1b]0;b\\x07\\ufe0f", "path plain"]
    assert caplog.records[1].args == ("plain",)


def test_log_escapes_what_cannot_be_seen_in_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("a\u3164b\U000e0100")
    except ValueError:
        sinks.log.exception("failed")
    assert "ValueError: a\\u3164b\\U000e0100" in caplog.text


def test_name_of_what_a_handler_raises_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    class Sick(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise type("Bad\x1b[31m\ufe0f", (Exception,), {})

    logger, handler = logging.getLogger("statemachine.of_a_test"), Sick()
    logger.addHandler(handler)
    try:
        sinks.Log(logger).error("once")
    finally:
        logger.removeHandler(handler)
    assert "raised Bad\\x1b[31m\\ufe0f;" in capsys.readouterr().err
