"""``flagkit serve FILE``: the embedded service, started with settings from the command line or the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flagkit.cli.text import plain
from flagkit.errors import DefinitionsError


@click.command("serve")
@click.argument("file")
@click.option("--db", default="flagkit.db", show_default=True, metavar="PATH", help="SQLite file for events.")
@click.option("--port", default=8400, show_default=True, type=int, metavar="N", help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="H", help="Another one needs your own keys.")
@click.option(
    "--read-key",
    "read_keys",
    multiple=True,
    envvar="FLAGKIT_READ_KEY",
    metavar="KEY",
    help="Who may fetch. Better in FLAGKIT_READ_KEY: other users see command lines.",
)
@click.option(
    "--write-key",
    "write_keys",
    multiple=True,
    envvar="FLAGKIT_WRITE_KEY",
    metavar="KEY",
    help="Who may send events. Better in FLAGKIT_WRITE_KEY.",
)
@click.option(
    "--admin-key",
    "admin_keys",
    multiple=True,
    envvar="FLAGKIT_ADMIN_KEY",
    metavar="KEY",
    help="Who may change flags. Better in FLAGKIT_ADMIN_KEY.",
)
@click.option(
    "--browser-key",
    "browser_keys",
    multiple=True,
    envvar="FLAGKIT_BROWSER_KEY",
    metavar="KEY",
    help="Who may ask about flags marked for clients. No secret: it stands in pages.",
)
@click.option(
    "--origin",
    "origins",
    multiple=True,
    envvar="FLAGKIT_ORIGIN",
    metavar="ORIGIN",
    help="A page that may ask, such as https://shop.example.com.",
)
@click.option(
    "--max-units", default=10_000, show_default=True, type=int, metavar="N", help="Enrolled in a flag at a time."
)
def command(file: str, db: str, port: int, host: str, **settings: Any) -> None:
    """Serve the definitions in FILE to clients, and store the events they send.

    FILE is read again whenever it changes; a bad edit is refused and the last good one stays. Keys that are not given
    are generated and kept in a file beside the database. Several keys in one variable are separated by spaces.
    """
    from flagkit.server import ServerConfig, serve  # extra `server`: only this command needs it

    try:
        serve(ServerConfig(Path(file), Path(db), host=host, port=port, **settings))
    except DefinitionsError:  # the service has said why, line by line
        raise click.ClickException(plain(f"{file}: no definitions that can be served")) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise click.ClickException(plain(f"{where}{error.strerror or error}")) from None
