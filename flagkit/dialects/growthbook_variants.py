"""Names for what a GrowthBook feature can serve: GrowthBook has values, flagkit has variants with names.

A name depends on nothing but what it stands for, so that reordering rules renames nothing: ``on`` and ``off`` for true
and false, ``default`` for any other default value, ``value-...`` for other values that rules force; in experiments the
variation's key, else its number. A name that is taken by another value is put behind the experiment's key, and callers
are told the name without it. Called by ``growthbook_rules``.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from flagkit.dialects.growthbook_values import truthy

_PLAIN: Final = re.compile(r"[A-Za-z0-9._-]{1,40}", re.ASCII).fullmatch
_MAX_NAME: Final = 128


class Variants:
    """The variants of one feature, as they are met. off: the one that is served when the feature is switched off."""

    def __init__(self, default: Any) -> None:
        self.named: dict[str, Any] = {}
        if isinstance(default, bool):  # both, so that either can be forced
            self.named = {"on": True, "off": False}
        self.default = self._settled(_word(default) or "default", default)

    @property
    def off(self) -> str:
        """``off`` for false, if there is such a value; else the default or the first that counts as off; else the
        default."""
        if self.named.get("off") is False:
            return "off"
        return next((name for name in (self.default, *self.named) if not truthy(self.named[name])), self.default)

    def forced(self, value: Any) -> str:
        """The variant that a rule forces: the default, where the value is the same."""
        if _same(value, self.named[self.default]):
            return self.default
        return self._settled(_word(value) or _value_name(value), value)

    def of_experiment(self, experiment: str, key: Any, index: int, value: Any) -> tuple[str, str]:
        """The variant of one variation, and what the experiment calls it. key: what it is to be called, if anything."""
        name = key if isinstance(key, str) and 0 < len(key) <= _MAX_NAME and _is_text(key) else str(index)
        return self._settled(name, value, f"{experiment}:{name}"), name

    def _settled(self, name: str, value: Any, qualified: str | None = None) -> str:
        if self._is_taken(name, value):
            name = (qualified or name)[:_MAX_NAME]
            if self._is_taken(name, value):
                name = f"{name[:100]}-{_digest(value)}"
        self.named.setdefault(name, value)
        return name

    def _is_taken(self, name: str, value: Any) -> bool:
        return name in self.named and not _same(self.named[name], value)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON."""
    if type(one) is not type(other):
        return False
    return bool(one == other) if isinstance(one, (str, int, float)) or one is None else _text(one) == _text(other)


def _word(value: Any) -> str | None:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else None


def _value_name(value: Any) -> str:
    if isinstance(value, str) and _PLAIN(value):
        return f"value-{value}"
    if isinstance(value, (int, float)) and _PLAIN(repr(value)):
        return f"value-{value!r}"
    return f"value-{_digest(value)}"


def _digest(value: Any) -> str:
    from hashlib import blake2b  # loads OpenSSL: not at import

    return blake2b(_text(value).encode(), digest_size=6).hexdigest()


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)
