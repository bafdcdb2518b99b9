"""Definitions, as a client that starts would take them: what is in them, what cannot be used, what is past its date."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from flagkit.cli.doctor.finding import Finding, ok, problem, warning
from flagkit.cli.review import is_past
from flagkit.cli.text import counted
from flagkit.config import Config
from flagkit.core.model import Definitions
from flagkit.dialects import native
from flagkit.errors import DefinitionsError, Problem

_SHOWN: Final = 3


def examine(data: bytes, now_ms: int, fix: str) -> Iterator[Finding]:
    """Look at a document. ``fix``: how to see all that is wrong with it. Raises: nothing."""
    try:
        definitions, problems = native.parse(data)
    except DefinitionsError as error:
        yield problem("definitions", f"cannot be used: {_first(error.problems)}", f"put it right; see {fix}")
        return
    refused = [each for each in problems if each.refused]
    remarks = [each for each in problems if not each.refused]
    found = f"{_described(definitions)}, {counted(len(data), 'byte')}"
    if refused:
        yield problem("definitions", f"{found}; not used: {_first(refused)}", f"put it right; see {fix}")
    else:
        yield ok("definitions", found)
    if remarks:
        yield warning("definitions", _first(remarks), f"see {fix}")
    most = Config().max_document_bytes
    if len(data) > most // 2:
        yield warning(
            "definitions", f"{len(data):,} bytes of {most:,} allowed", "drop flags, or raise max_document_bytes"
        )
    today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
    expired = sorted(key for key, flag in definitions.flags.items() if flag.expires and is_past(flag.expires, today))
    if expired:
        names = ", ".join(expired[:_SHOWN]) + (" ..." if len(expired) > _SHOWN else "")
        yield warning(
            "flags", f"{counted(len(expired), 'flag')} past `expires`: {names}", "drop them, or give a later date"
        )


def _described(definitions: Definitions) -> str:
    parts = [counted(len(definitions.flags), "flag")]
    parts += [counted(len(definitions.segments), "segment")] if definitions.segments else []
    parts += [f"version {definitions.version}"] if definitions.version else []
    parts += [f"environment {definitions.environment}"] if definitions.environment else []
    parts += [f"number {definitions.number}"] if definitions.number is not None else []
    return ", ".join(parts)


def _first(problems: Sequence[Problem]) -> str:
    more = f" (and {counted(len(problems) - 1, 'more problem')})" if len(problems) > 1 else ""
    return f"{problems[0]}{more}"
