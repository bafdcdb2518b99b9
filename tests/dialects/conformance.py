"""Where other projects' conformance cases are: beside the checkout, or where FLAGKIT_CONFORMANCE says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def cases(*parts: str) -> Path:
    """The file or folder of these parts. Skips the test when there are no cases."""
    folder = os.environ.get("FLAGKIT_CONFORMANCE") or Path(__file__).parents[3] / "shared" / "conformance"
    found = Path(folder, *parts)
    if not found.exists():
        pytest.skip(f"no conformance cases at {found}", allow_module_level=True)
    return found
