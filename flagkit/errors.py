"""Everything flagkit raises or reports, as one small tree.

    FlagkitError
    ├── ConfigError(ValueError)       a wrong argument: names the field, the value, and what would be right
    ├── DefinitionsError(ValueError)  a definitions document that cannot be used at all, with its problems
    ├── FetchError                    a source could not deliver (the poller catches it; applications never see it)
    └── ShadowMismatch(AssertionError)  a shadow run came to something else than its control, in a test that asked

Raised at construction and by tools only. Evaluation and tracking raise nothing; what goes wrong there is
an answer with a reason, a count in ``client.status``, and a ``Problem``.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from flagkit.boundary import contained

_SHOWN: Final = 128


def shown(value: object) -> str:
    """``repr(value)`` cut to 128 characters, for messages. Raises: nothing, whatever the object's ``__repr__`` does."""
    text = contained(repr, value, otherwise=f"<{type(value).__name__}>")
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


class Problem(NamedTuple):
    """One thing wrong in a definitions document.

    path: where, as a JSON path (``$.flags.new-checkout.rules[0].serve``).
    message: what was found and what would be right.
    flag: the key of the flag it costs an update, if it belongs to one.
    refused: True when what ``path`` belongs to is not used (the flag keeps its previous good version);
        False when it is used all the same and the message says what differs.
    """

    path: str
    message: str
    flag: str | None = None
    refused: bool = True

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class FlagkitError(Exception):
    """Base of every exception flagkit raises. All of them can be pickled and copied, as worker processes do."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Not Exception's own way, which calls ``__init__`` with the message in place of what it was made of.
        return _remade, (type(self), self.args), self.__dict__


def _remade(kind: type[FlagkitError], args: tuple[Any, ...]) -> FlagkitError:
    return kind.__new__(kind, *args)


class ConfigError(FlagkitError, ValueError):
    """A wrong argument. ``field`` names it; the message says what was given and what would be right.

    Pass ``secret=True`` for values that must never be shown, such as keys.
    """

    def __init__(self, field: str, value: object, expected: str, *, secret: bool = False) -> None:
        self.field = field
        super().__init__(f"{field}: got {'a value not shown here' if secret else shown(value)}; expected {expected}")


class DefinitionsError(FlagkitError, ValueError):
    """A definitions document refused as a whole. ``problems`` says why, one entry a mistake.

    off: flags that it readably turns off all the same, which is never refused.
    """

    def __init__(self, problems: tuple[Problem, ...], off: frozenset[str] = frozenset()) -> None:
        self.problems = problems
        self.off = off
        super().__init__("; ".join(map(str, problems)) or "no definitions")


class FetchError(FlagkitError):
    """A source could not deliver definitions; the last good ones stay.

    reason: a word for counting (``refused``, ``deadline``, ``http_503``, ``too_large`` ...).
    retry_after_s: how long the server asked us to wait, seconds, or None.
    lasting: True when retrying soon is pointless (401, 403, 404, a bad certificate): the poller slows down.
    """

    def __init__(self, reason: str, message: str, *, retry_after_s: float | None = None, lasting: bool = False) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.lasting = lasting
        super().__init__(message)


class ShadowMismatch(FlagkitError, AssertionError):
    """Control and candidate of a shadow run do not agree, and its policy says ``raise_on_mismatch``: for tests."""
