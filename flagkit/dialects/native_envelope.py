"""Native definitions as a publisher sends them: numbered, counted, and one flag a line. Pure.

The envelope is what a publisher adds to what people wrote: ``epoch`` (the life of one counter), ``number`` (of the
content within it) and ``flag_count``. Called by the service and ``flagkit publish``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

_ENVELOPE: Final = ("epoch", "number", "flag_count")


class Enveloped(NamedTuple):
    """``body`` is the document to send; ``etag`` names exactly these bytes, as an HTTP header has it."""

    body: bytes
    etag: str
    flag_count: int


def enveloped(document: Mapping[str, Any], epoch: str, number: int) -> Enveloped:
    """``document`` with an envelope in front."""
    flag_count = len(document["flags"])
    envelope = {"epoch": epoch, "number": number, "flag_count": flag_count}
    body = one_flag_a_line({**envelope, **without_envelope(document)})
    return Enveloped(body, f'"{sha256(body).hexdigest()[:32]}"', flag_count)


def without_envelope(document: Mapping[str, Any]) -> dict[str, Any]:
    """What people wrote."""
    return {name: value for name, value in document.items() if name not in _ENVELOPE}


def one_flag_a_line(document: Mapping[str, Any]) -> bytes:
    """The document as JSON with every entry of its objects (flags, segments ...) on a line of its own.

    Clients keep what they made of a line that has not changed.
    """
    fields = []
    for name, value in document.items():
        if isinstance(value, dict) and value:
            entries = ",\n".join(f"{_json(key)}:{_json(entry)}" for key, entry in value.items())
            fields.append(f"{_json(name)}:{{\n{entries}\n}}")
        else:
            fields.append(f"{_json(name)}:{_json(value)}")
    return ("{" + ",\n".join(fields) + "}\n").encode()


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
