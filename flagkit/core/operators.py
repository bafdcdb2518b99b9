"""What a condition can ask of an attribute: one row an operator, from its values to a test.

A test takes an attribute's value and answers True, False, or None for unknown (missing, null, another JSON type, a
string over 4,096 characters, a number that is not finite). A list answers True when any element does; one of more than
500 elements is unknown.
Factories validate: they raise ValueError saying what would be right, and the parser reports it at the condition.
Called by the parser (to validate) and by the compiler; knows nothing of flags.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

from flagkit.core.dates import DATE_FORM, parse_age_ms, parse_date_ms
from flagkit.core.logic import Now
from flagkit.core.versions import Version, first_after, parse_version

Test: TypeAlias = Callable[[Any], bool | None]

MAX_STRING: Final = 4096
MAX_ITEMS: Final = 500
MAX_MEMO: Final = 1024
_MAX_PATTERN: Final = 256
MAX_MATCHED: Final = 1024
_MAX_VERSION: Final = 256
_LISTS: Final = (list, tuple, set, frozenset)


class Question(NamedTuple):
    """What a condition asks: its values, whether case is ignored, and where relative dates count from."""

    values: tuple[Any, ...]
    ignore_case: bool
    now_ms: Now


class Inline(NamedTuple):
    """A test of a plain str as an expression: over ``{x}``, the str, and ``{k}``, which is ``constant``.

    ``when``: what must hold besides, or else the test itself is asked. It may assign to ``y`` for the expression.
    """

    expression: str
    constant: Any
    when: str | None = None


class Operator(NamedTuple):
    """make: values to test. folds: whether it knows ``ignore_case``.

    inline: from values and their test, what spares a compiled flag the call; None when these have no such form. It may
    say False for unknown: it stands only where a condition has to be true.
    """

    make: Callable[[Question], Test]
    inline: Callable[[tuple[Any, ...], Any], Inline | None] | None = None
    folds: bool = False


# -- reading values --------------------------------------------------------------------------------------------------


def _otherwise(value: Any, test: Test) -> bool | None:
    """The answer for a value that is not of the plain type a test handles itself."""
    if issubclass(type(value), _LISTS):
        unknown = len(value) > MAX_ITEMS
        for item in () if unknown else value:
            answer = None if issubclass(type(item), _LISTS) else test(item)
            if answer:
                return True
            unknown = unknown or answer is None
        return None if unknown else False
    plain = _plain(value)
    return None if plain is value or plain is None else test(plain)


def _plain(value: Any) -> Any:
    """A plain str, int or float for an instance of a subclass (StrEnum, IntEnum, numpy.float64) or a UUID."""
    kind = type(value)  # not isinstance anywhere here: a proxy's or mock's __class__ may say anything
    if kind is str or kind is bool or kind is int or kind is float or value is None:
        return value
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, int):
        return int.__index__(value)
    if issubclass(kind, float):
        return float.__float__(value)
    uuid = sys.modules.get("uuid")  # before its import there are no UUIDs, and importing it costs every start
    if uuid is not None and issubclass(kind, uuid.UUID):
        return uuid.UUID.__str__(value)
    return value


def _of_strings(match: Callable[[str], bool | None]) -> Test:
    def test(value: Any) -> bool | None:
        if type(value) is str:
            return match(value) if len(value) <= MAX_STRING else None
        return _otherwise(value, test)

    return test


def _of_numbers(match: Callable[[float], bool]) -> Test:
    def test(value: Any) -> bool | None:
        kind = type(value)
        if kind is int or (kind is float and math.isfinite(value)):
            return match(value)
        return _otherwise(value, test)

    return test


# -- checking values -------------------------------------------------------------------------------------------------


def _texts(values: Iterable[str], folds: bool) -> frozenset[str]:
    if any(len(value) > MAX_STRING for value in values):
        raise ValueError(f"values of at most {MAX_STRING:,} characters")
    return frozenset([value.casefold() for value in values] if folds else values)


def _strings(question: Question) -> tuple[str, ...]:
    for value in question.values:
        if not isinstance(value, str):
            raise ValueError("strings as values")  # noqa: TRY004 - a document's mistake, not a caller's
        if len(value) > MAX_STRING:
            raise ValueError(f"values of at most {MAX_STRING:,} characters")
    return tuple(value.casefold() for value in question.values) if question.ignore_case else question.values


def _some_strings(question: Question) -> tuple[str, ...]:
    if not question.values:
        raise ValueError("at least one value")
    return _strings(question)


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _numbers(question: Question, count: int) -> tuple[Any, ...]:
    if len(question.values) != count or not all(map(_is_number, question.values)):
        raise ValueError("one number as the value" if count == 1 else f"{count} numbers as values")
    return question.values


# -- operators -------------------------------------------------------------------------------------------------------


def _in(question: Question) -> Test:
    values, folds = question.values, question.ignore_case
    if not values:
        raise ValueError("at least one value")
    if not all(isinstance(value, (str, bool)) or _is_number(value) for value in values):
        raise ValueError("strings, numbers or booleans as values")
    texts = _texts([value for value in values if isinstance(value, str)], folds)
    truths = frozenset([value for value in values if isinstance(value, bool)])
    numbers = frozenset([value for value in values if _is_number(value)])

    def test(value: Any) -> bool | None:
        kind = type(value)
        if kind is str:
            return (value.casefold() if folds else value) in texts if len(value) <= MAX_STRING else None
        if kind is int or (kind is float and math.isfinite(value)):
            return value in numbers
        if kind is bool:
            return value in truths
        return _otherwise(value, test)

    return test


def _text(matches: Callable[[str, tuple[str, ...]], bool]) -> Callable[[Question], Test]:
    def make(question: Question) -> Test:
        wanted = _some_strings(question)
        if question.ignore_case:
            return _of_strings(lambda value: matches(value.casefold(), wanted))
        return _of_strings(lambda value: matches(value, wanted))

    return make


def _contains(value: str, wanted: Iterable[str]) -> bool:
    return any(part in value for part in wanted)


def _matches(question: Question) -> Test:
    patterns = _some_strings(question._replace(ignore_case=False))
    try:
        import re2  # type: ignore[import-untyped]  # the extra `regex`, for flags that ask for it
    except ImportError:
        raise ValueError("the extra flagkit[regex] to be installed (linear-time matching needs google-re2)") from None
    options = re2.Options()
    options.case_sensitive = not question.ignore_case
    options.log_errors = False
    options.max_mem = 1 << 20  # bounds the compiled program
    compiled = []
    for pattern in patterns:
        if len(pattern) > _MAX_PATTERN:
            raise ValueError(f"patterns of at most {_MAX_PATTERN} characters")
        try:
            compiled.append(re2.compile(pattern, options=options).search)
        except re2.error:
            raise ValueError("a regular expression in RE2 syntax") from None

    def match(value: str) -> bool | None:
        if len(value) > MAX_MATCHED:
            return None
        try:
            return any(search(value) is not None for search in compiled)
        except UnicodeEncodeError:  # a lone surrogate, which is no text
            return None

    return _of_strings(match)


def _compared(compare: Callable[[Any, Any], bool]) -> Callable[[Question], Test]:
    def make(question: Question) -> Test:
        (bound,) = _numbers(question, 1)
        return _of_numbers(lambda value: compare(value, bound))

    return make


def _between(question: Question) -> Test:
    low, high = _numbers(question, 2)
    if low > high:
        raise ValueError("the lower bound first")
    return _of_numbers(lambda value: low <= value <= high)


def _exists(question: Question) -> Test:
    if question.values:
        raise ValueError("no values")
    return lambda value: value is not None


# -- dates -----------------------------------------------------------------------------------------------------------


def _dated(compare: Callable[[int, int], bool]) -> Callable[[Question], Test]:
    def make(question: Question) -> Test:
        fixed: list[int] = []
        ages: list[int] = []
        for text in _some_strings(question._replace(ignore_case=False)):
            at, age = parse_date_ms(text), parse_age_ms(text)
            if at is not None:
                fixed.append(at)
            elif age is not None:
                ages.append(age)
            else:
                raise ValueError(f'{DATE_FORM}, or an age such as "7d"')
        now_ms = question.now_ms

        def match(at: int) -> bool:
            if any(compare(at, bound) for bound in fixed):
                return True
            if not ages:
                return False
            now = now_ms()
            return any(compare(at, now - age) for age in ages)

        def test(value: Any) -> bool | None:
            if type(value) is str:
                at = parse_date_ms(value) if len(value) <= MAX_STRING else None
            elif issubclass(type(value), datetime):
                at = round(value.timestamp() * 1000) if value.tzinfo is not None else None
            else:
                return _otherwise(value, test)
            return None if at is None else match(at)

        return test

    return make


# -- versions --------------------------------------------------------------------------------------------------------


class VersionTest:
    """A test that remembers its answers by text: an application meets few versions, and reading one is dear.

    ``memo`` holds at most MAX_MEMO answers, True and False only, and is emptied when full. Compiled flags look into it.
    """

    __slots__ = ("_matches", "_wanted", "memo")

    def __init__(self, matches: Callable[[Version, Version], bool], wanted: list[Version]) -> None:
        self._matches = matches
        self._wanted = wanted
        self.memo: dict[str, bool] = {}

    def __call__(self, value: Any) -> bool | None:
        if type(value) is not str:
            return _otherwise(value, self)
        version = parse_version(value[1:] if value[:1] == "v" else value) if len(value) <= _MAX_VERSION else None
        if version is None:
            return None
        answer = any(self._matches(version, each) for each in self._wanted)
        if len(self.memo) >= MAX_MEMO:
            self.memo.clear()
        self.memo[value] = answer
        return answer


def _versioned(matches: Callable[[Version, Version], bool]) -> Operator:
    def make(question: Question) -> Test:
        wanted: list[Version] = []
        for text in _some_strings(question._replace(ignore_case=False)):
            version = parse_version(text) if len(text) <= _MAX_VERSION else None
            if version is None:
                raise ValueError('a semantic version such as "2.3.0"')
            wanted.append(version)
        return VersionTest(matches, wanted)

    return Operator(make, lambda _, test: Inline("y", test.memo, "(y := {k}.get({x})) is not None"))


def _in_range(operator: str) -> Operator:
    return _versioned(lambda version, low: low <= version < first_after(low, operator))


# -- addresses -------------------------------------------------------------------------------------------------------


def _in_cidr(question: Question) -> Test:
    import ipaddress  # 5 ms, and few definitions ask for it

    networks = []
    for text in _some_strings(question._replace(ignore_case=False)):
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise ValueError('a network such as "10.0.0.0/8" or "2001:db8::/32"') from None

    def match(text: str) -> bool | None:
        if len(text) > 64:
            return None
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return None
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in networks)

    return _of_strings(match)


def _inline_in(values: tuple[Any, ...], _: Test) -> Inline | None:
    if not all(isinstance(value, str) for value in values):
        return None
    return Inline("{x} == {k}", values[0]) if len(values) == 1 else Inline("{x} in {k}", frozenset(values))


def _inline_text(expression: str) -> Callable[[tuple[Any, ...], Test], Inline | None]:
    def inline(values: tuple[Any, ...], _: Test) -> Inline | None:
        return Inline(expression, values[0], f"len({{x}}) <= {MAX_STRING}") if len(values) == 1 else None

    return inline


OPERATORS: Final[dict[str, Operator]] = {
    "in": Operator(_in, _inline_in, folds=True),
    "contains": Operator(_text(_contains), _inline_text("{k} in {x}"), folds=True),
    "starts_with": Operator(_text(str.startswith), _inline_text("{x}.startswith({k})"), folds=True),
    "ends_with": Operator(_text(str.endswith), _inline_text("{x}.endswith({k})"), folds=True),
    "matches": Operator(_matches, folds=True),
    "greater": Operator(_compared(lambda value, bound: value > bound)),
    "greater_or_equal": Operator(_compared(lambda value, bound: value >= bound)),
    "less": Operator(_compared(lambda value, bound: value < bound)),
    "less_or_equal": Operator(_compared(lambda value, bound: value <= bound)),
    "between": Operator(_between),
    "before": Operator(_dated(lambda at, bound: at < bound)),
    "after": Operator(_dated(lambda at, bound: at > bound)),
    "semver_equal": _versioned(lambda version, wanted: version == wanted),
    "semver_greater": _versioned(lambda version, wanted: version > wanted),
    "semver_greater_or_equal": _versioned(lambda version, wanted: version >= wanted),
    "semver_less": _versioned(lambda version, wanted: version < wanted),
    "semver_less_or_equal": _versioned(lambda version, wanted: version <= wanted),
    "semver_caret": _in_range("caret"),
    "semver_tilde": _in_range("tilde"),
    "in_cidr": Operator(_in_cidr),
    "exists": Operator(_exists),
}
