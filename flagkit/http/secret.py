"""``Secret``: a key that reaches the Authorization header and nothing else.

Owns the only copy of a key that flagkit keeps. It knows nothing of HTTP beyond what a header can carry. ``Wire`` makes
one and reveals it once per request; logs and status show ``digest``.
"""

from __future__ import annotations

from typing import NoReturn

from flagkit.errors import ConfigError


class Secret:
    """A key that prints as its digest and refuses to be pickled or copied.

    Args:
        text: the key: printable Latin-1, not empty, no space at either end (a header carries nothing else).
        field: the argument it came in as, for the error.

    Raises: ConfigError naming the field, without the value.
    """

    __slots__ = ("_text",)

    def __init__(self, text: object, field: str = "key") -> None:
        if not isinstance(text, str) or not _fits_header(text):
            expected = "a non-empty string of printable Latin-1 characters, without a space or line end around it"
            raise ConfigError(field, text, expected, secret=True)
        self._text = text

    def reveal(self) -> str:
        """The key itself. For a header, at the moment it is sent."""
        return self._text

    def bearer(self) -> str:
        """What the Authorization header says. It prints as its digest, where a crash report shows headers."""
        return self.header("Bearer ")

    def header(self, before: str = "") -> str:
        """The value of a header: the key behind ``before``. It prints as its digest too."""
        value = _Header(f"{before}{self._text}")
        value.shown = f"{before}{self!r}"
        return value

    @property
    def digest(self) -> str:
        """Six hex digits that tell two keys apart in a log and give neither away."""
        from hashlib import sha256  # loads OpenSSL: not at import

        return sha256(self._text.encode()).hexdigest()[:6]

    def __repr__(self) -> str:
        return f"Secret(#{self.digest})"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: hand the key to the other process by its environment")


class _Header(str):
    """A header's value that does not show itself."""

    __slots__ = ("shown",)

    shown: str

    def __repr__(self) -> str:
        return self.shown


def _fits_header(text: str) -> bool:
    return bool(text) and text.isprintable() and text == text.strip() and max(text) <= "\xff"
