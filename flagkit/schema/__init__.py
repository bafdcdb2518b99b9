"""The JSON Schema of the native definitions, shipped with the package for editors and for ``flagkit validate``.

It knows the shape of a document; what spans several places (references, cycles, overlaps, order) only the parser knows.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Final

NAME: Final = "definitions.schema.json"


def schema_text() -> str:
    """The schema as shipped (JSON, draft 2020-12)."""
    return files(__name__).joinpath(NAME).read_text(encoding="utf-8")


def load_schema() -> dict[str, Any]:
    """The schema, decoded; a fresh object on every call."""
    schema: dict[str, Any] = json.loads(schema_text())
    return schema
