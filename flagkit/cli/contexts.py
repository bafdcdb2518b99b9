"""Contexts to try definitions on: read from a file of JSON lines, or made up. Streams; called by ``diff``."""

from __future__ import annotations

from collections.abc import Iterator

import click

from flagkit.cli.options import strict_json
from flagkit.cli.text import plain
from flagkit.context import Context, as_context
from flagkit.errors import shown

_EXPECTED = 'an object with "unit", or a unit'


def made_up(count: int) -> Iterator[Context]:
    """``unit-0`` to ``unit-<count - 1>``, without attributes."""
    for number in range(count):
        yield Context(f"unit-{number}")


def from_lines(path: str) -> Iterator[Context]:
    """A context for each line of the file: ``{"unit": ..., attribute: value ...}`` or a plain unit; blank lines pass.

    Raises: ClickException naming the file and the line.
    """
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _context(line, f"{path}:{number}")
    except OSError as error:
        raise click.ClickException(plain(f"{path}: cannot be read: {error.strerror}")) from None


def _context(line: bytes, place: str) -> Context:
    try:
        value = strict_json(line)
    except ValueError as error:
        raise click.ClickException(plain(f"{place}: not JSON: {error}")) from None
    context = as_context(value)
    if context._key is False:
        raise click.ClickException(plain(f"{place}: got {shown(value)}; expected {_EXPECTED}"))
    return context
