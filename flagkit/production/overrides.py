"""``SignedOverrides``: forced answers for one person's requests in production, which nobody else can make or move.

Owns the form of a token, the keys that sign it, and the count of what became of those that were shown. It must not know
where a token came from (a header, a cookie, a message), nor of threads. Called by ``Client.scope`` and by ``sign``.
Source: HMAC-SHA256 by itsdangerous (extra ``overrides``), imported when keys are given and never before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from flagkit.boundary import contained
from flagkit.core.model import Definitions, FlagDefinition
from flagkit.errors import ConfigError

MAX_HOURS: Final = 24
MAX_FLAGS: Final = 20
#: Characters of a token; a cookie holds no more.
MAX_TOKEN: Final = 3072
ACCEPTED: Final = "accepted"
#: How far the clock of who signs may be ahead of ours, milliseconds.
_LEEWAY_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000
_MIN_SECRET: Final = 32
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
_KEYS_FORM: Final = f"key id:secret, separated by commas; a secret has at least {_MIN_SECRET} characters"
#: Part of what is signed, so that no other token signed with the same secret is one of these.
_PURPOSE: Final = "flagkit.override.1."


class Claim(NamedTuple):
    """What a token says. Times in milliseconds since 1970; ``unit`` None: for whoever shows it."""

    id: str
    environment: str
    flags: Mapping[str, str]
    unit: str | None
    issued_ms: int
    expires_ms: int


class Keys:
    """The secrets that sign, by key id: all are accepted, the first signs.

    Args: given, ``"id:secret,id:secret"`` or a mapping id -> secret. An id matches ``[A-Za-z0-9_-]{1,32}``.
    Raises: ConfigError, which shows no secret; ModuleNotFoundError without the extra ``overrides``.
    """

    __slots__ = ("_serializers", "signing")

    def __init__(self, given: str | Mapping[str, str]) -> None:
        from hashlib import sha256

        from itsdangerous import URLSafeSerializer

        pairs = list(given.items()) if isinstance(given, Mapping) else _pairs(given)
        if not pairs or len(dict(pairs)) != len(pairs):
            raise ConfigError("keys", given, f"{_KEYS_FORM}; each id once", secret=True)
        for name, secret in pairs:
            named = isinstance(name, str) and _KEY_ID.fullmatch(name) is not None
            if not named or not isinstance(secret, str) or len(secret) < _MIN_SECRET:
                raise ConfigError("keys", given, _KEYS_FORM, secret=True)
        how = {"key_derivation": "hmac", "digest_method": sha256}
        self.signing = pairs[0][0]
        self._serializers = {
            name: URLSafeSerializer(secret, salt=f"{_PURPOSE}{name}", signer_kwargs=how) for name, secret in pairs
        }

    def __repr__(self) -> str:
        return f"Keys({', '.join(self._serializers)})"

    def sign(self, claim: Claim) -> str:
        """The token: the key's id, a dot, and what itsdangerous makes of the claim. Raises: ConfigError if too long."""
        token = f"{self.signing}.{self._serializers[self.signing].dumps([*claim])}"
        if len(token) > MAX_TOKEN:
            raise ConfigError("flags", claim.flags, f"fewer of them: a token has at most {MAX_TOKEN:,} characters")
        return token

    def read(self, token: object) -> Claim | str:
        """What a token says, or in a word why it says nothing. Raises: nothing."""
        if not isinstance(token, str) or len(token) > MAX_TOKEN or not token.isascii():
            return "malformed"
        name, dot, signed = token.partition(".")
        if not dot:
            return "malformed"
        serializer = self._serializers.get(name)
        if serializer is None:
            return "unknown_key"
        # What is signed was written by us; whatever else goes wrong in there, it is not.
        said: Any = contained(serializer.loads, signed, otherwise=None)
        return "tampered" if said is None else contained(_claim, said, otherwise=None) or "malformed"


def _pairs(text: object) -> list[tuple[str, str]]:
    if not isinstance(text, str):
        return []
    parts = [part.strip().partition(":") for part in text.split(",")]
    return [(name, secret) for name, _, secret in parts]


def _claim(said: list[Any]) -> Claim:
    claim = Claim(*said)
    texts = [claim.id, claim.environment, *claim.flags.keys(), *claim.flags.values()]
    if not all(isinstance(text, str) for text in texts) or not isinstance(claim.unit, str | None):
        raise ValueError("not a claim")
    return claim._replace(issued_ms=int(claim.issued_ms), expires_ms=int(claim.expires_ms))


def new_claim(
    flags: Mapping[str, str], environment: str, unit: str | None, hours: float, now_ms: int, token_id: str
) -> Claim:
    """A claim from now on. Raises: ConfigError naming the argument."""
    if not flags or len(flags) > MAX_FLAGS:
        raise ConfigError("flags", flags, f"1 to {MAX_FLAGS} flags, each with a variant")
    for flag, variant in flags.items():
        if not (isinstance(flag, str) and flag and isinstance(variant, str) and variant):
            raise ConfigError("flags", {flag: variant}, "flag -> the name of a variant")
    if not isinstance(environment, str) or not environment:
        raise ConfigError("environment", environment, "the name of the environment that the token is for")
    if unit is not None and (not isinstance(unit, str) or not unit):
        raise ConfigError("unit", unit, "None or the unit as text")
    good = isinstance(hours, int | float) and not isinstance(hours, bool) and math.isfinite(hours)
    if not good or not 0 < hours <= MAX_HOURS:
        raise ConfigError("hours", hours, f"a number above 0, at most {MAX_HOURS}")
    return Claim(token_id, environment, dict(flags), unit, now_ms, now_ms + int(hours * _HOUR_MS))


class SignedOverrides:
    """Judges tokens for one client, and counts.

    Args: flags, those that take overrides although their definitions do not say so.
    counts: ``accepted``, or the word for a refusal -> how often. There are as many words as this module has.
    """

    __slots__ = ("_flags", "_keys", "_now_ms", "counts")

    def __init__(self, keys: str | Mapping[str, str], now_ms: Callable[[], int], flags: Collection[str] = ()) -> None:
        if isinstance(flags, str) or not all(isinstance(flag, str) and flag for flag in flags):
            raise ConfigError("flags", flags, 'a collection of the keys of flags, such as ("new-checkout",)')
        self._flags = frozenset(flags)
        self._keys = Keys(keys)
        self._now_ms = now_ms
        self.counts: dict[str, int] = {}

    def granted(
        self, token: object, unit: str | None, environment: str | None, definitions: Definitions
    ) -> Mapping[str, str]:
        """Flag -> variant that ``token`` forces for ``unit``; empty when it is refused, as a whole. Raises: nothing."""
        claim = self._keys.read(token)
        refusal = claim if isinstance(claim, str) else self._refusal(claim, unit, environment, definitions)
        verdict = refusal or ACCEPTED
        # Not exact when two threads are here at once, and not worth a lock: it says what happens, not how often.
        self.counts[verdict] = self.counts.get(verdict, 0) + 1
        return {} if refusal is not None or isinstance(claim, str) else claim.flags

    def _refusal(self, claim: Claim, unit: str | None, environment: str | None, definitions: Definitions) -> str | None:
        now_ms = self._now_ms()
        if claim.expires_ms <= now_ms:
            return "expired"
        if claim.issued_ms > now_ms + _LEEWAY_MS:
            return "not_yet"
        if claim.expires_ms - claim.issued_ms > MAX_HOURS * _HOUR_MS:
            return "too_long"
        if claim.environment != environment:
            return "other_environment"
        if claim.unit is not None and claim.unit != unit:
            return "other_unit"
        for key, variant in claim.flags.items():
            refusal = _refused_by(definitions.flags.get(key), variant, claim, named=key in self._flags)
            if refusal is not None:
                return refusal
        return None


def _refused_by(flag: FlagDefinition | None, variant: str, claim: Claim, *, named: bool) -> str | None:
    if flag is None:
        return "unknown_flag"
    terms = flag.overridable
    if terms is None:
        if not named:
            return "not_overridable"
    elif claim.id in terms.revoked or (terms.issued_after_ms is not None and claim.issued_ms <= terms.issued_after_ms):
        return "revoked"
    return None if variant in flag.variants else "unknown_variant"
