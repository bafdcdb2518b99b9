"""``Meter``: how often one variant of a flag ran through gates, how often and by what it failed, and how long it took.

Latencies are counted in buckets, 32 to each doubling, so that a quantile is within 2 % of the true one, meters of
several processes can be added (``Sums``), and memory does not grow with calls. Driven by one thread at a time; it knows
no gate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import frexp, ldexp
from typing import Any, Final, NamedTuple

from flagkit.frozen import ReadOnly
from flagkit.production.failure import Failure

#: Buckets to a doubling, as a power of two.
_FINE: Final = 5
_LEAST_S: Final = 2.0**-24
_MOST_S: Final = 2.0**20
#: The first bucket, of all below ``_LEAST_S``, and the last, which ends at ``_MOST_S`` and has all beyond.
_LEAST: Final = -23 << _FINE
_MOST: Final = (20 << _FINE) + 63
#: Error types told apart; further ones are counted together.
_MOST_ERRORS: Final = 20
_OTHER: Final = "other"
_MOST_BUCKETS: Final = _MOST - _LEAST + 1
_MAX_TEXT: Final = 256
_MAX_COUNT: Final = 2**53
#: The exponent and the first five digits of a double are the number of its bucket, but for where that begins.
_DIGITS: Final = 52 - _FINE
_ZERO: Final = (1022 << _FINE) - (1 << _FINE)


class VariantMetrics(NamedTuple):
    """What one variant of a flag did in this process since the client started.

    calls: calls that ended. failures: those that failed. errors: exception's type, or what a gate was told -> failures.
    p50_s, p90_s, p99_s: how long calls without a failure took, seconds, within 2 %; None without any.
    places: exception's type -> where the latest one was raised, ``folder/file.py:line``.
    buckets: number of a bucket -> calls without a failure that took so long; ``edges`` says how long.
    """

    flag: str
    variant: str | None
    calls: int
    failures: int
    errors: Mapping[str, int]
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None
    places: Mapping[str, str] = ReadOnly()
    buckets: Mapping[int, int] = ReadOnly()

    def __repr__(self) -> str:
        # Without the buckets: hundreds of numbers, in what people print to see how it stands.
        told = zip(self._fields[:-1], self[:-1], strict=True)
        return f"VariantMetrics({', '.join(f'{name}={value!r}' for name, value in told)})"


class Sums(NamedTuple):
    """What some calls came to, as it travels, is kept and is added up: counts alone, so that any sum is exact.

    errors, places, buckets: as of ``VariantMetrics``. At most 21 errors and 1,440 buckets (1,409 are ever used).
    """

    errors: Mapping[str, int] = {}
    places: Mapping[str, str] = {}
    buckets: Mapping[int, int] = {}

    @property
    def failures(self) -> int:
        return sum(self.errors.values())

    @property
    def calls(self) -> int:
        return self.failures + sum(self.buckets.values())

    def plus(self, more: Sums) -> Sums:
        """Both together; what there are too many kinds of errors for is counted as ``other``."""
        errors, buckets = dict(self.errors), dict(self.buckets)
        for error, count in more.errors.items():
            kind = _counted_as(error, errors)
            errors[kind] = errors.get(kind, 0) + count
        for bucket, count in more.buckets.items():
            buckets[bucket] = buckets.get(bucket, 0) + count
        places = {error: place for error, place in {**self.places, **more.places}.items() if error in errors}
        return Sums(errors, places, buckets)

    def minus(self, before: Sums) -> Sums:
        """What has come since it was ``before``."""
        errors = _grown(self.errors, before.errors)
        places = {error: place for error, place in self.places.items() if error in errors}
        return Sums(errors, places, _grown(self.buckets, before.buckets))

    def times(self) -> dict[str, float | None]:
        """``p50_s``, ``p90_s`` and ``p99_s`` as of ``VariantMetrics``."""
        return dict(zip(("p50_s", "p90_s", "p99_s"), quantiles(self.buckets, (0.5, 0.9, 0.99)), strict=True))

    def to_json(self) -> dict[str, Any]:
        buckets = {str(bucket): count for bucket, count in sorted(self.buckets.items())}
        return {"errors": dict(self.errors), "places": dict(self.places), "buckets": buckets}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Sums:
        """What ``to_json`` made, from whoever sends it. Raises: ValueError, also when there is not a single call."""
        errors, places, buckets = (value.get(name, {}) for name in cls._fields)
        if not (_counts(errors, _MOST_ERRORS + 1) and _counts(buckets, _MOST_BUCKETS) and errors | buckets):
            raise ValueError("errors and buckets: expected counts")
        if not isinstance(places, dict) or not all(name in errors and _text(place) for name, place in places.items()):
            raise ValueError("places: expected texts, by error")
        return cls(errors, places, {_bucket(text): count for text, count in buckets.items()})


class Meter:
    """Counts the calls of one variant."""

    __slots__ = ("_taken", "_told", "buckets", "calls", "errors", "failures", "flag", "places", "variant")

    def __init__(self, flag: str, variant: str | None) -> None:
        self.flag = flag
        self.variant = variant
        self.clear()

    def clear(self) -> None:
        """Begin anew. Assigns only."""
        self.calls = self.failures = 0
        self.errors: dict[str, int] = {}
        self.places: dict[str, str] = {}
        #: Number of a bucket -> calls; at most 1,409 of them.
        self.buckets: dict[int, int] = {}
        #: What was taken so far, and how many calls that is.
        self._told, self._taken = Sums(), 0

    def add(self, seconds: float, error: str | None) -> None:
        """Count a call that took ``seconds``; ``error`` is what it failed of, None if it did not."""
        if error is None:
            self.add_times([seconds])
            return
        self.calls += 1
        self.failures += 1
        kind = _counted_as(error, self.errors)
        if type(error) is Failure and error.place is not None and kind is not _OTHER:
            self.places[kind] = error.place
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def add_times(self, times: Sequence[float]) -> None:
        """Count calls without a failure that took so many seconds each; one or more."""
        from array import array  # not for those who only ask

        self.calls += len(times)
        buckets = self.buckets
        if min(times) >= _LEAST_S and max(times) < _MOST_S:
            for bits in memoryview(array("d", times)).cast("B").cast("q"):
                bucket = (bits >> _DIGITS) - _ZERO  # ``bucket_of``, without a call for each
                buckets[bucket] = buckets.get(bucket, 0) + 1
            return
        for bucket in map(bucket_of, times):
            buckets[bucket] = buckets.get(bucket, 0) + 1

    def read(self) -> VariantMetrics:
        """What was counted so far. Any thread; a call that ends meanwhile may be in it or not."""
        sums = self._sums()
        p50_s, p90_s, p99_s = sums.times().values()
        return VariantMetrics(
            self.flag,
            self.variant,
            sums.calls,
            sums.failures,
            ReadOnly(sums.errors),
            p50_s,
            p90_s,
            p99_s,
            ReadOnly(sums.places),
            ReadOnly(sums.buckets),
        )

    def take(self) -> Sums | None:
        """What was counted since the last time; None when nothing was. One thread at a time."""
        if self.calls == self._taken:  # most have rested, and cost nothing
            return None
        sums = self._sums()
        new, self._told, self._taken = sums.minus(self._told), sums, sums.calls
        return new if new.errors or new.buckets else None

    def _sums(self) -> Sums:
        # Each copied in one step, and totals are made of the copies, so that they fit whoever counts meanwhile. Places
        # come last here and first in ``add``: there is one for every error that is told.
        errors, buckets = self.errors.copy(), self.buckets.copy()
        return Sums(errors, self.places.copy(), buckets)


def bucket_of(seconds: float) -> int:
    """The number of the bucket that holds ``seconds``; what is no duration goes to the nearest end."""
    if _LEAST_S <= seconds < _MOST_S:
        mantissa, exponent = frexp(seconds)
        return (exponent << _FINE) + int(mantissa * 64)
    return _MOST if seconds >= _MOST_S else _LEAST


def quantiles(buckets: Mapping[int, int], asked: Iterable[float]) -> list[float | None]:
    """The quantiles of durations in ``buckets``, seconds; None when there are none. Raises: nothing."""
    total, ordered = sum(buckets.values()), sorted(buckets)
    found: list[float | None] = []
    for share in asked:
        rank, passed, at = share * (total - 1), 0, None
        for number in ordered:
            passed += buckets[number]
            if passed > rank:
                exponent, step = number - 32 >> _FINE, number - 32 & 31
                at = ldexp((step + 32.5) / 64, exponent) if number > _LEAST else 0.0
                break
        found.append(at)
    return found


def edges(bucket: int) -> tuple[float, float]:
    """Where a bucket begins and ends, seconds: ``begin <= t < end``. The last one has all that is beyond as well."""
    exponent, step = bucket - 32 >> _FINE, bucket - 32 & 31
    return (
        (ldexp((step + 32) / 64, exponent), ldexp((step + 33) / 64, exponent)) if bucket > _LEAST else (0.0, _LEAST_S)
    )


def _counted_as(error: str, known: Mapping[str, int]) -> str:
    return str(error) if error in known or len(known) < _MOST_ERRORS else _OTHER


def _grown(now: Mapping[Any, int], before: Mapping[Any, int]) -> dict[Any, int]:
    return {key: more for key, count in now.items() if (more := count - before.get(key, 0))}


def _counts(value: object, most: int) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= most
        and all(map(_text, value))
        and all(type(count) is int and 0 < count <= _MAX_COUNT for count in value.values())
    )


def _text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT and not any("\ud800" <= c <= "\udfff" for c in value)


def _bucket(text: str) -> int:
    number = int(text) if len(text) < 5 and text.lstrip("-").isdecimal() else _MOST + 1
    if not _LEAST <= number <= _MOST or str(number) != text:
        raise ValueError("buckets: expected the numbers of buckets")
    return number
