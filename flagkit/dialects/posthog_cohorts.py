"""PostHog's cohorts: AND and OR of filters, further parts and other cohorts, read and measured.

A cohort that the definitions lack is a static one, whose members only PostHog's servers know; one that cannot be read,
goes in circles or is very large counts as such too. ``posthog_filters`` asks, ``posthog`` reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from flagkit.dialects.fields import At, Faults, said
from flagkit.dialects.posthog_flags import read_property
from flagkit.dialects.posthog_model import Entries, Property

_MAX_DEPTH: Final = 16  # of parts within parts, and of cohorts within cohorts
_MAX_SIZE: Final = 10_000  # of filters that one question may come to
_EMPTY: Final = Entries(True, ())


def read_cohort(value: object, at: At, faults: Faults, room: int = _MAX_DEPTH) -> Entries:
    """A cohort or a part of one. With faults noted, the result is not for use."""
    if value == {}:
        return _EMPTY
    kind = value.get("type") if isinstance(value, dict) else None
    listed = value.get("values") if isinstance(value, dict) else None
    if kind not in ("AND", "OR") or not isinstance(listed, list):
        faults.expected(at, value, 'an object with "type", AND or OR, and a list of "values"')
        return _EMPTY
    if not room or len(listed) > _MAX_SIZE:
        faults.add(at, f"too large; expected {_MAX_DEPTH} levels and {_MAX_SIZE:,} filters at most")
        return _EMPTY
    items: list[Property | Entries] = []
    for index, each in enumerate(listed):
        inner: At = ((at, "values"), index)
        if isinstance(each, dict) and (not each or "values" in each or each.get("type") in ("AND", "OR")):
            items.append(read_cohort(each, inner, faults, room - 1))
        else:
            items.append(read_property(each, inner, faults))
    return Entries(kind == "AND", tuple(items))


def cohort_id(value: Any) -> str:
    """The id that a filter's value names: how the definitions spell it."""
    return value if isinstance(value, str) else said(value)


class Measure(NamedTuple):
    """size: how many filters a question may come to. depth: of cohorts within cohorts."""

    size: int
    depth: int


class Cohorts:
    """The cohorts of one document.

    known: id -> what it is. texts: as they are written, for telling whether they have changed. asked: what
    ``posthog_filters`` made of those that were asked for, which flags share.
    """

    def __init__(self, known: Mapping[str, Entries], texts: Mapping[str, str]) -> None:
        self.known = known
        self.texts = texts
        self.asked: dict[Any, Any] = {}
        self._measures: dict[str, Measure | None] = {}
        self._inner: dict[str, tuple[str, ...]] = {}
        self._digests: dict[str, str | None] = {}

    def get(self, name: str) -> Entries | None:
        """The cohort, if it can be asked here."""
        return self.known[name] if self.measure(name) is not None else None

    def used_by(self, properties: Iterable[Property]) -> frozenset[str]:
        """The ids of all cohorts, there or not, that answers to filters depend on."""
        found: set[str] = set()
        waiting = list(_named_in(properties))
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._within(name)
        return frozenset(found)

    def digest(self, name: str) -> str | None:
        """What tells a cohort's text from others; None without one."""
        if name not in self._digests:
            from hashlib import blake2b  # loads OpenSSL: not at import

            text = self.texts.get(name)
            known = None if text is None else blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()
            self._digests[name] = known
        return self._digests[name]

    def _within(self, name: str) -> tuple[str, ...]:
        """The ids of the cohorts that one asks for itself."""
        if name not in self._inner:
            self._inner[name] = tuple(_named_in(filters_in(self.known.get(name))))
        return self._inner[name]

    def measure(self, name: str) -> Measure | None:
        """None when it, or one within it, is not there, goes in circles, or is too large or deep."""
        done, path, waiting = self._measures, set[str](), [name]
        while waiting:
            current = waiting[-1]
            if current in done:
                waiting.pop()
                continue
            inner = self._within(current)
            if current not in path:
                path.add(current)
                if path.isdisjoint(inner):
                    waiting += [each for each in inner if each not in done]
                    continue
            done[current] = self._sum(current, inner) if path.isdisjoint(inner) else None
            path.discard(current)
        return done[name]

    def _sum(self, name: str, inner: tuple[str, ...]) -> Measure | None:
        entries, measures = self.known.get(name), [self._measures[each] for each in inner]
        sizes, depths = [each.size for each in measures if each], [each.depth for each in measures if each]
        if entries is None or len(sizes) < len(measures):
            return None
        measure = Measure(sum(1 for _ in filters_in(entries)) + sum(sizes), 1 + max(depths, default=0))
        return measure if measure.size <= _MAX_SIZE and measure.depth <= _MAX_DEPTH else None


def _named_in(properties: Iterable[Property]) -> Iterator[str]:
    return (cohort_id(each.value) for each in properties if each.kind == "cohort")


def filters_in(entries: Entries | None) -> Iterator[Property]:
    """All filters of a cohort, in whatever part they stand."""
    waiting = [entries] if entries is not None else []
    while waiting:
        for each in waiting.pop().items:
            if isinstance(each, Entries):
                waiting.append(each)
            else:
                yield each
