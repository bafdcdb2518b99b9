"""Definitions files for commands: bytes in, a model out, and every failure one line that names the file.

Used by eval, diff and lint; ``validate`` wants all problems and asks the parser itself.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import click

from flagkit.cli.text import counted, plain
from flagkit.core.model import Definitions
from flagkit.dialects import names, native
from flagkit.errors import DefinitionsError, Problem

_MAX_BYTES: Final = 1 << 30


def read(path: str) -> bytes:
    """The bytes of the file (or pipe) at ``path``. Raises: ClickException saying why not."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise click.ClickException(plain(f"{path}: cannot be read: {reason}")) from None
    if len(data) > _MAX_BYTES:
        raise click.ClickException(plain(f"{path}: larger than 1 GiB"))
    return data


def load(path: str) -> tuple[Definitions, tuple[Problem, ...]]:
    """The definitions at ``path`` and what is wrong with single flags. Raises: ClickException when none can be used."""
    return parse(path, read(path))


def parse(path: str, data: bytes) -> tuple[Definitions, tuple[Problem, ...]]:
    """``load`` for what has been read already."""
    try:
        return native.parse(data)
    except DefinitionsError as error:
        first, more = error.problems[0], len(error.problems) - 1
        rest = f" (and {counted(more, 'more problem')}; see flagkit validate)" if more else ""
        raise click.ClickException(plain(f"{path}: {first}{rest}")) from None


def warn(path: str, problems: Collection[Problem]) -> None:
    """Say on stderr that some of the document is not used, and how to see it."""
    if problems:
        noun = counted(len(problems), "problem")
        click.echo(plain(f"{path}: {noun}; see flagkit validate {path}"), err=True)


def unknown(noun: str, name: str, known: Collection[str]) -> click.ClickException:
    """The error for a ``name`` that is not ``known``, with the nearest one or what there is."""
    return click.ClickException(plain(names.unknown(noun, name, known)))
