"""``flagkit publish FILE``: definitions into Redis, numbered and told to everyone who listens, in one transaction."""

from __future__ import annotations

import json
import secrets
from typing import Any, Final

import click

from flagkit.cli import documents
from flagkit.cli.text import counted, plain
from flagkit.core.model import Definitions
from flagkit.dialects import native
from flagkit.dialects.native_changes import change
from flagkit.dialects.native_envelope import enveloped
from flagkit.errors import DefinitionsError
from flagkit.sources import Redis

_DEADLINE_S: Final = 10.0


@click.command("publish")
@click.argument("file")
@click.option(
    "--redis",
    "url",
    required=True,
    envvar="FLAGKIT_REDIS_URL",
    metavar="URL",
    help="Better in FLAGKIT_REDIS_URL if it has a password: other users see command lines.",
)
@click.option("--key", default="flagkit:definitions", show_default=True, help="What the document is put under.")
@click.option("--channel", default=None, help="Where the change is told.  [default: like the key]")
@click.option("--insecure", is_flag=True, help="Allow redis:// beyond this machine, in the clear.")
def command(file: str, url: str, key: str, channel: str | None, insecure: bool) -> None:
    """Put the definitions in FILE into Redis, and tell every client that listens what has changed.

    A file with any mistake that would cost a flag is refused. The same content again publishes nothing.
    """
    data = documents.read(file)
    definitions, problems = documents.parse(file, data)
    refused = [problem for problem in problems if problem.refused]
    if refused:
        lines = [f"{file}: not published:", *(f"  {problem}" for problem in refused)]
        raise click.ClickException("\n".join(map(plain, lines)))
    place = Redis(url, key=key, channel=channel, allow_insecure_redis=insecure)
    flags = counted(len(definitions.flags), "flag")
    number, told = publish(place, json.loads(data))
    if told is None:
        click.echo(plain(f"{place.name}: has this content already, number {number}, {flags}"))
    else:
        click.echo(plain(f"{place.name}: number {number}, {flags}, told to {counted(told, 'listener')}"))


def publish(place: Redis, document: dict[str, Any]) -> tuple[int, int | None]:
    """The number the content has now, and how many were told of it; None when it was there. Raises: FetchError."""
    number = 0

    def make(held: bytes | None, listeners: int) -> tuple[bytes, bytes] | None:
        nonlocal number
        before = _read(held)
        epoch, number = (before.epoch, before.number or 0) if before and before.epoch else (secrets.token_hex(8), 0)
        if held == enveloped(document, epoch, number).body:
            return None
        number += 1
        new = enveloped(document, epoch, number)
        after = native.parse(new.body).definitions
        # As many milliseconds as there are listeners: about as long as it takes a Redis to hand all of them a document.
        news = change(before or Definitions({}), after, etag=new.etag, spread_ms=listeners)
        return new.body, news

    told = place.put(make, deadline_s=_DEADLINE_S)
    return number, told


def _read(held: bytes | None) -> Definitions | None:
    """What is under the key, if it can be read: whatever it is, it is about to be replaced."""
    try:
        return None if held is None else native.parse(held).definitions
    except DefinitionsError:
        return None
