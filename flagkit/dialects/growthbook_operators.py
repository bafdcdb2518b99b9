"""What GrowthBook's conditions ask of one value: an operator and its argument to a test, made when they are read.

A test takes an attribute's value, None where there is none, and answers True or False. Where neither can be said (an
unknown operator, a pattern that is none, a text too long to be matched) it answers ``unknown``, which the caller chose
so that the condition as a whole does not match. What looks into other conditions is in ``growthbook_conditions``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from flagkit.dialects.fields import At, Faults
from flagkit.dialects.growthbook_values import kind_of, listed, order, padded_version, same, truthy
from flagkit.dialects.javascript import plain

Ask: TypeAlias = Callable[[Any], bool]

MAX_MATCHED: Final = 8192  # characters
_MAX_PATTERN: Final = 1024
_MAX_SIMPLE: Final = 128
_MAX_VERSION: Final = 256
_MAX_MEMO: Final = 1024
#: Patterns without repetition, of at most one group, and the same to RE2, to JavaScript and to Python.
_SIMPLE: Final = re.compile(
    r"""
      [A-Za-z0-9 @_/:,;=&%#!~<>'"|^-]   # literals, alternatives, the start
    | \\[./+?*()|^$@-]                  # escaped literals
    | \. | \[\^?[A-Za-z0-9_]+\]         # one of many characters
    | (?P<end>\$)
    | (?P<bracket>[()])
    """,
    re.VERBOSE | re.ASCII,
)
_ESCAPES: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|.)", re.DOTALL)


class Inline(NamedTuple):
    """A test as an expression over ``{x}``, for values whose type is ``guard``; ``{k}`` is ``constant``.

    guard: the name of a type, or "" for all values. ``{first}`` is what the value is read from where it is named first.
    """

    expression: str
    constant: Any = None
    guard: str = ""


class Test(NamedTuple):
    """ask: the whole test. inline: what spares a compiled flag the call, if there is such a form."""

    ask: Ask
    inline: Inline | None = None


# -- equality and membership -----------------------------------------------------------------------------------------


def equals(wanted: Any, *, negated: bool = False) -> Test:
    """Equal as JSON to ``wanted``."""
    if wanted is None or isinstance(wanted, bool):
        word = Inline(f"({{first}}) is {'not ' if negated else ''}{wanted}")
        return Test(lambda value: (value is wanted) is not negated, word)
    inline: Inline | None = None
    if isinstance(wanted, str):
        inline = Inline(f"{{x}} {'!=' if negated else '=='} {{k}}", wanted, "str")
    elif isinstance(wanted, (int, float)):
        inline = Inline(f"{{x}} {'!=' if negated else '=='} {{k}}", wanted, "int")
    return Test(lambda value: same(value, wanted) is not negated, inline)


def strictly_equals(wanted: Any, *, negated: bool = False) -> Test:
    """``===``: of lists and objects none are equal, since they are never the very same."""
    if isinstance(wanted, (list, dict)):
        return constant(negated)
    return equals(wanted, negated=negated)


def constant(answer: bool) -> Test:
    return Test(lambda _: answer, Inline(f"(({{first}}) is None or True) is {answer}"))


class Members:
    """The values of a list, to be looked up by value and type; lists and objects are equal to none of them."""

    __slots__ = ("folds", "numbers", "texts", "words")

    def __init__(self, values: list[Any], *, folds: bool = False) -> None:
        self.folds = folds
        values = list(map(plain, values))
        self.texts = frozenset([(each.lower() if folds else each) for each in values if isinstance(each, str)])
        self.words = frozenset([each for each in values if each is None or isinstance(each, bool)])
        self.numbers = frozenset(
            [each for each in values if isinstance(each, (int, float)) and not isinstance(each, bool)]
        )

    def have(self, value: Any) -> bool:
        """Whether a single value is one of them."""
        value = plain(value)
        if isinstance(value, str):
            return (value.lower() if self.folds else value) in self.texts
        if value is None or isinstance(value, bool):
            return value in self.words
        return isinstance(value, (int, float)) and value in self.numbers

    def ask(self, value: Any) -> bool:
        """Whether a value, or any of a list, is one of them."""
        items = listed(value)
        return self.have(value) if items is None else any(map(self.have, items))

    def test(self, *, negated: bool) -> Test:
        if negated:
            ask = self.ask
            inline = None if self.folds else Inline("{x} not in {k}", self.texts, "str")
            return Test(lambda value: not ask(value), inline)
        return Test(self.ask, None if self.folds else Inline("{x} in {k}", self.texts, "str"))


# -- order, versions, types ------------------------------------------------------------------------------------------

_ORDERED: Final[dict[str, tuple[str, Callable[[int], bool]]]] = {
    "$lt": ("<", lambda found: found < 0),
    "$lte": ("<=", lambda found: found <= 0),
    "$gt": (">", lambda found: found > 0),
    "$gte": (">=", lambda found: found >= 0),
}


def ordered(operator: str, bound: Any) -> Test:
    sign, holds = _ORDERED[operator]

    def ask(value: Any) -> bool:
        found = order(plain(value), bound)
        return found is not None and holds(found)

    numeric = isinstance(bound, (int, float)) and not isinstance(bound, bool)
    return Test(ask, Inline(f"{{x}} {sign} {{k}}", bound, "int") if numeric else None)


_VERSIONED: Final[dict[str, Callable[[str, str], bool]]] = {
    "$veq": lambda version, wanted: version == wanted,
    "$vne": lambda version, wanted: version != wanted,
    "$vlt": lambda version, wanted: version < wanted,
    "$vlte": lambda version, wanted: version <= wanted,
    "$vgt": lambda version, wanted: version > wanted,
    "$vgte": lambda version, wanted: version >= wanted,
}


def versioned(operator: str, wanted: Any, unknown: bool) -> Test:
    """Versions are read once: an application meets few, and their answers are remembered by their text."""
    matches, bound = _VERSIONED[operator], padded_version(wanted)
    memo: dict[str, bool] = {}

    def ask(value: Any) -> bool:
        if type(value) is not str:
            value = plain(value)
        if not isinstance(value, str):
            return matches(padded_version(value), bound)
        answer = memo.get(value)
        if answer is None:
            if len(value) > _MAX_VERSION:
                return unknown
            if len(memo) >= _MAX_MEMO:
                memo.clear()
            answer = memo[value] = matches(padded_version(value), bound)
        return answer

    return Test(ask)


def exists(wanted: Any) -> Test:
    """Whether there is a value, or, asked with false, none."""
    there = truthy(wanted)
    return Test(lambda value: (value is not None) is there, Inline(f"({{first}}) is {'not ' if there else ''}None"))


def typed(wanted: Any) -> Test:
    return Test(lambda value: kind_of(plain(value)) == wanted)


# -- patterns --------------------------------------------------------------------------------------------------------


def matches(pattern: Any, at: At, faults: Faults, notes: Faults, *, folds: bool, negated: bool, unknown: bool) -> Test:
    """A regular expression, through RE2. What no engine reads matches nothing; what only RE2 cannot do is a fault."""
    search = _search(pattern, folds, at, faults, notes)
    if search is None:
        return constant(unknown)

    def ask(value: Any) -> bool:
        if type(value) is not str:
            value = plain(value)
            if not isinstance(value, str):
                return negated  # what is no text does not match, so that $notRegex does
        if len(value) > MAX_MATCHED:
            return unknown
        try:
            return (search(value) is None) is negated
        except UnicodeEncodeError:  # a lone surrogate, which is no text
            return unknown

    return Test(ask)


def _search(pattern: Any, folds: bool, at: At, faults: Faults, notes: Faults) -> Callable[[str], Any] | None:
    if not isinstance(pattern, str):
        notes.expected(at, pattern, "a regular expression; this matches nothing")
        return None
    if len(pattern) > _MAX_PATTERN:
        faults.add(at, f"a regular expression of more than {_MAX_PATTERN:,} characters")
        return None
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        notes.expected(at, pattern, "a regular expression; this matches nothing")
        return None
    simple = None if folds else _simple(pattern)
    if simple is not None:
        return simple
    try:
        import re2  # type: ignore[import-untyped]  # the extra `regex`, for flags that ask for it
    except ImportError:
        faults.add(at, "the extra flagkit[regex] is not installed (linear-time matching needs google-re2)")
        return None
    options = re2.Options()
    options.case_sensitive = not folds
    options.log_errors = False
    options.max_mem = 1 << 20  # bounds the compiled program
    try:
        search: Callable[[str], Any] = re2.compile(_ESCAPES.sub(_escape, pattern), options=options).search
    except (re2.error, UnicodeEncodeError):
        faults.expected(at, pattern, "a regular expression in RE2 syntax: without look-around and back references")
        return None
    return search


def _simple(pattern: str) -> Callable[[str], Any] | None:
    """The search for a pattern that needs no engine with promises: nothing in it repeats, so that no text takes long.

    RE2's binding takes 3.5 µs for a search that ``re`` does in 0.13, and most patterns are like this one.
    """
    if len(pattern) > _MAX_SIMPLE:
        return None
    written, brackets, at = [], 0, 0
    while at < len(pattern):
        token = _SIMPLE.match(pattern, at)
        if token is None:
            return None
        brackets += token["bracket"] is not None
        written.append(r"\Z" if token["end"] else token[0])
        at = token.end()
    return re.compile("".join(written)).search if brackets <= 2 else None


def _escape(found: re.Match[str]) -> str:
    r"""JavaScript's ``\u00e9`` as RE2 writes it."""
    return rf"\x{{{found[1]}}}" if found[1] else found[0]
