"""Signed overrides for those who make them: ``sign``, and where a request carries one (extra ``overrides``).

For scripts and pages of an application's own; ``flagkit override sign`` is the same on the command line. What accepts
the tokens is ``Client.allow_overrides`` and ``Client.scope``.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from time import time_ns
from typing import NamedTuple

from flagkit.production.overrides import Keys, new_claim

__all__ = ["Signed", "sign"]


class Signed(NamedTuple):
    """A token, the id by which it can be revoked, and when it expires (milliseconds since 1970)."""

    token: str
    id: str
    expires_ms: int

    def __repr__(self) -> str:  # a token is as good as a password until it expires
        return f"Signed(id={self.id!r}, expires_ms={self.expires_ms})"


def sign(
    keys: str | Mapping[str, str],
    flags: Mapping[str, str],
    *,
    environment: str,
    unit: str | None = None,
    hours: float = 1,
) -> Signed:
    """A token that forces ``flags`` (flag -> variant) for the requests that bring it.

    Args: keys, as for ``Client.allow_overrides``, of which the first signs; flags, 1 to 20; environment, the one whose
        clients accept it; unit, whose requests alone it is good for, None for anybody's; hours, above 0, at most 24.
    Raises: ConfigError naming the argument; ModuleNotFoundError without the extra ``overrides``.
    """
    claim = new_claim(flags, environment, unit, hours, time_ns() // 1_000_000, secrets.token_hex(6))
    return Signed(Keys(keys).sign(claim), claim.id, claim.expires_ms)
