"""Where a unit falls: SHA-1 to a fraction of one. The only place that knows PostHog's bucketing.

    fraction = int(first 15 hex digits of sha1(key + "." + unit + salt)) / 0xFFFFFFFFFFFFFFF
    in a rollout, or held out:  fraction <= percentage / 100   (a holdout hashes "holdout-" + unit instead)
    of a variant:               fraction < sum of percentages up to and with it / 100, salt "variant"

Compiled flags compare digests with bounds found here at load: bytes compare as the integers they begin with, so that
a bound of 8 bytes is the same test without the division. Only bytes are hashed.

Source: PostHog, rust/feature-flags/src/flags/flag_matching_utils.rs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

#: ``sha1(data: bytes).digest()``.
sha1 = hashlib.sha1
VARIANT_SALT: Final = b"variant"
HOLDOUT: Final = b"holdout-"
_TOP: Final = 0xFFFFFFFFFFFFFFF
_SCALE: Final = float(_TOP)
#: Greater than any digest.
_ALL: Final = b"\xff" * 21


def prefix(flag: str) -> bytes:
    """The bytes hashed before the unit's key."""
    return flag.encode() + b"."


def rollout_bound(percentage: float) -> bytes | None:
    """The bound such that ``digest < bound`` exactly when the unit is in; None when all are."""
    share = percentage / 100
    return None if percentage >= 100 else _bound(lambda fraction: fraction <= share)


def variant_bound(reached: float) -> bytes:
    """The bound such that ``digest < bound`` exactly when the fraction is less than ``reached``."""
    return _bound(lambda fraction: fraction < reached)


def _bound(inside: Callable[[float], bool]) -> bytes:
    """By bisection over integers, because what counts is how their quotients round."""
    low, high = 0, _TOP + 1  # everything below low is inside, nothing from high on
    while low < high:
        middle = (low + high) // 2
        if inside(middle / _SCALE):
            low = middle + 1
        else:
            high = middle
    return _ALL if low > _TOP else (low << 4).to_bytes(8)
