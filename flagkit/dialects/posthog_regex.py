"""PostHog's regular expressions, which are Rust's, as RE2's, so that no pattern and no property makes one slow.

Both are linear-time cousins of one syntax. What differs is translated: Rust's ``\\d``, ``\\w`` and ``\\s`` know
Unicode. What RE2 cannot do (look-around, back-references, which PostHog's servers add) is told apart from what is no
pattern at all, and never matches. Called when a flag is read and when it is compiled.

Source: docs.rs/regex (syntax), github.com/google/re2/wiki/Syntax.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from flagkit.dialects.posthog_values import UNSUPPORTED, Answer

_MAX_PATTERN: Final = 1024
_MAX_MEMORY: Final = 1 << 20
#: Look-around, atomic groups, conditionals; back-references; what else fancy-regex adds.
_BEYOND: Final = re.compile(r"\(\?(?:[=!>(]|<[=!])|\\(?:[1-9]|k<|K|G|Z|h|H|e)|[*+?}]\+")
_DIGIT, _SPACE = r"\p{Nd}", r"\t-\r\x20\x85\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}"
_WORD: Final = r"\p{L}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}"
#: Letter -> what is inside the class.
_CLASSES: Final = {"d": _DIGIT, "s": _SPACE, "w": _WORD}


class Pattern(NamedTuple):
    """search: whether a text holds a match, or UNSUPPORTED; None: it is no pattern. problem: what should be known."""

    search: Callable[[str], Answer] | None
    problem: str | None = None


@lru_cache(maxsize=256)
def pattern(written: str) -> Pattern:
    """A pattern as it stands in a filter. Raises: nothing."""
    if len(written) > _MAX_PATTERN:
        return _beyond(f"a pattern of at most {_MAX_PATTERN:,} characters")
    try:
        import re2  # type: ignore[import-untyped]  # the extra `regex`, for flags that ask for it
    except ImportError:
        return _beyond("the extra flagkit[regex] to be installed (linear-time matching needs google-re2)")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    translated, ascii_only = _translated(written)
    try:
        compiled: Callable[[str], Any] = re2.compile(translated, options=options).search
    except (re2.error, UnicodeEncodeError):
        if _BEYOND.search(written):
            return _beyond("a pattern without look-around, back-references and possessive quantifiers")
        return Pattern(None, "no regular expression: it never matches, negated or not")

    def search(text: str) -> Answer:
        if ascii_only and not text.isascii():
            return UNSUPPORTED
        try:
            return compiled(text) is not None
        except UnicodeEncodeError:  # a lone surrogate, which is no text
            return UNSUPPORTED

    return Pattern(search)


def _beyond(expected: str) -> Pattern:
    return Pattern(lambda _: UNSUPPORTED, f"expected {expected}")


def _translated(written: str) -> tuple[str, bool]:
    """The pattern for RE2, and whether it still means ASCII where Rust means Unicode."""
    out: list[str] = []
    ascii_only = inside = False
    at = 0
    while at < len(written):
        character, following = written[at], written[at + 1 : at + 2]
        at += 1
        if character == "\\" and following:
            at += 1
            replaced = _escape(following, inside)
            ascii_only = ascii_only or replaced is None
            out.append(replaced or "\\" + following)
            continue
        if character == "[" and not inside:
            inside = True
            if following == "^":
                out.append("[")
                character, following = "^", written[at + 1 : at + 2]
                at += 1
            if following == "]":  # the first of a class is itself
                out.append(character)
                character = "]"
                at += 1
        elif character == "]":
            inside = False
        elif inside and character == "[":  # Rust nests classes, RE2 takes it for itself
            ascii_only = True
        out.append(character)
    return "".join(out), ascii_only


def _escape(letter: str, inside: bool) -> str | None:
    """What stands for ``\\letter``; None where only its meaning for ASCII can be kept."""
    known = _CLASSES.get(letter.lower())
    if known is None:
        return None if letter in "bB" else "\\" + letter
    if letter.islower():
        return known if inside else f"[{known}]"
    if not inside:
        return f"[^{known}]"
    return r"\P{Nd}" if letter == "D" else None
