"""Whether control and candidate agree, and where they do not: the policy's functions, each failure of theirs named.

Differences are told as paths and digests. A digest is keyed, so that nobody can find out a value by trying; it is the
same for the same value within a process. The walk through two results is bounded, whatever they are. Called by a run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, Final

from flagkit.boundary import contained
from flagkit.production.shadow_policy import ShadowPolicy
from flagkit.production.shadow_result import (
    ERROR,
    IGNORED,
    MATCH,
    MISMATCH,
    UNJUDGED,
    Difference,
    Observation,
    ShadowResult,
    type_of,
)

_MOST_PLACES: Final = 10
_MOST_STEPS: Final = 10_000
_DEEPEST: Final = 20
_LONGEST_PATH: Final = 200
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_SCALARS: Final = (str, bytes, int, float, bool, type(None))
_FAILED: Final = object()


class Judge:
    """Compares for one client. ``key``: of the digests, made when first needed."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes | None = None) -> None:
        self._key = os.urandom(16) if key is None else key

    def judge(self, policy: ShadowPolicy, result: ShadowResult) -> ShadowResult:
        """``result`` with outcome, differences, cleaned values and failures. Raises: nothing derived from Exception."""
        failures: list[str] = []
        control, candidate = result.control, result.candidate
        outcome = _outcome(policy, control, candidate, failures)
        places: tuple[Difference, ...] = ()
        if outcome == MISMATCH:
            places = contained(self.differences, control.value, candidate.value, otherwise=())
        if policy.clean is not None:
            control, candidate = _cleaned(policy.clean, control, failures), _cleaned(policy.clean, candidate, failures)
        return result._replace(
            outcome=outcome, control=control, candidate=candidate, differences=places, failures=tuple(failures)
        )

    def differences(self, control: Any, candidate: Any) -> tuple[Difference, ...]:
        """At most ten places at which two results differ, looked for in dicts, lists and tuples.

        An equality that a result's own type knows is asked at the leaves only. Raises: what that raises.
        """
        found: list[Difference] = []
        for step, (path, left, right) in enumerate(_leaves("$", control, candidate, 0), 1):
            if left is not right and not (type(left) is type(right) and left == right):
                found.append(Difference(path[:_LONGEST_PATH], self.told(left), self.told(right)))
            if len(found) >= _MOST_PLACES or step >= _MOST_STEPS:
                break
        return tuple(found)

    def told(self, value: Any) -> str:
        """A value's type, with its size or a digest; ``nothing`` where there is none. Raises: nothing."""
        kind = type(value)
        if value is _MISSING:
            return "nothing"
        if kind in (dict, list, tuple, set, frozenset):
            return f"{kind.__name__} of {len(value)}"
        if kind not in _SCALARS:
            return kind.__qualname__[:64]
        text = contained(repr, value, otherwise="")  # an int may have too many digits for that
        raw = value if kind is bytes else text.encode("utf-8", "surrogatepass")
        return f"{kind.__name__} #{blake2b(raw, key=self._key, digest_size=6).hexdigest()}"


def _outcome(policy: ShadowPolicy, control: Observation, candidate: Observation, failures: list[str]) -> str:
    if control.exception is not None and candidate.exception is not None:
        alike = _asked(
            "compare_errors", policy.compare_errors or _same_type, failures, control.exception, candidate.exception
        )
        return UNJUDGED if alike is _FAILED else MATCH if alike else ERROR
    if control.exception is not None or candidate.exception is not None:
        return ERROR
    alike = _asked("compare", policy.compare or _equal, failures, control.value, candidate.value)
    if alike is _FAILED or alike:
        return UNJUDGED if alike is _FAILED else MATCH
    for ignore in policy.ignore:
        known = _asked("ignore", ignore, failures, control.value, candidate.value)
        if known is not _FAILED and known:
            return IGNORED
    return MISMATCH


def _asked(name: str, function: Callable[..., Any], failures: list[str], *values: Any) -> Any:
    """Whether ``function`` says yes, as a bool; ``_FAILED`` when it raised, which is noted under its name."""
    return contained(
        lambda: bool(function(*values)),
        otherwise=_FAILED,
        failed=lambda error: failures.append(f"{name}: {type_of(error)}"),
    )


def _cleaned(clean: Callable[[Any], Any], seen: Observation, failures: list[str]) -> Observation:
    if seen.exception is not None:
        return seen
    return contained(
        lambda: seen._replace(cleaned=clean(seen.value)),
        otherwise=seen,
        failed=lambda error: failures.append(f"clean: {type_of(error)}"),
    )


def _same_type(control: BaseException, candidate: BaseException) -> bool:
    return type(control) is type(candidate)


def _equal(control: Any, candidate: Any) -> Any:
    return control == candidate


_MISSING: Final = object()


def _leaves(path: str, left: Any, right: Any, depth: int) -> Iterator[tuple[str, Any, Any]]:
    """What two results have at the same places, down to what is no dict, list or tuple in both."""
    kind = type(left)
    if kind is not type(right) or depth >= _DEEPEST:
        yield path, left, right
    elif kind is dict:
        for key in left.keys() | right.keys() if left.keys() != right.keys() else left:
            there = f"{path}{_step(key)}"
            yield from _leaves(there, left.get(key, _MISSING), right.get(key, _MISSING), depth + 1)
    elif kind is list or kind is tuple:
        for index in range(max(len(left), len(right))):
            one = left[index] if index < len(left) else _MISSING
            other = right[index] if index < len(right) else _MISSING
            yield from _leaves(f"{path}[{index}]", one, other, depth + 1)
    else:
        yield path, left, right


def _step(key: Any) -> str:
    """A key of a dict in a path: the names of fields as they are, and of anything else its type only."""
    return f".{key}" if type(key) is str and _NAME.fullmatch(key) else f"[{type(key).__name__}]"
