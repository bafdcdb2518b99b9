"""flagd's definitions with ``fractional`` version 3: murmur3 over the key's canonical CBOR. In all else as ``flagd``.

A dialect of its own because a document does not say which version it was written for, and the versions place nearly
every unit elsewhere: changing from one to the other is a decision, made where the source is made.
"""

from __future__ import annotations

from flagkit.core.model import Definitions
from flagkit.dialects import Parsed, flagd
from flagkit.dialects.flagd_fractional import V3

context = flagd.context


def parse(data: bytes, previous: Definitions | None = None) -> Parsed:
    """As ``flagd.parse``. Raises: DefinitionsError."""
    return flagd.parse(data, previous, hashing=V3)
