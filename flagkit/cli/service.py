"""A service as a command asks it: a URL, one key, JSON both ways, and every failure one line that shows no key.

Keys come from the environment, a file, or a prompt, and never have to stand on a command line. Called by ``summary``,
``history`` and the commands that change a flag.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode

import click

from flagkit.cli import documents
from flagkit.cli.options import strict_json
from flagkit.cli.text import plain
from flagkit.clock import Clock, SystemClock

if TYPE_CHECKING:
    from flagkit.http import Reply, Wire

_URL: Final = re.compile(r"(https?://[^/?#]+)((?:/[^/?#]+)*)/?").fullmatch
_DEADLINE_S: Final = 60.0
_MAX_BYTES: Final = 256 * 1024 * 1024
#: Failures after which the service may or may not have done what it was asked, and statuses that will pass.
_UNSURE: Final = frozenset({"deadline", "reset", "truncated", "network", "bad_response", "bad_encoding", "too_large"})
_PASSING: Final = frozenset({429, 502, 503, 504})
_TRIES: Final = 4
_ORDER_DEADLINE_S: Final = 20.0
_WAIT_S: Final = 0.5

_Command = TypeVar("_Command", bound=Callable[..., Any])


def service_options(command: _Command) -> _Command:
    """``--url``, ``--key-file``, ``--allow-insecure-http``, as the parameters ``url``, ``key_file``, ``insecure``."""
    for option in (
        click.option(
            "--allow-insecure-http",
            "insecure",
            is_flag=True,
            help="Speak http beyond this machine; the key goes in the clear.",
        ),
        click.option("--key-file", metavar="PATH", help="A file with the key, or the keys a service generated."),
        click.option("--url", metavar="URL", help="The service, instead of a file."),
    ):
        command = option(command)
    return command


def key_for(role: str, key_file: str | None) -> str:
    """The key for ``role`` (read, admin): from the file, from ``FLAGKIT_<ROLE>_KEY``, or asked for at a terminal.

    Raises: ClickException, UsageError when there is none.
    """
    if key_file is not None:
        return key_in(key_file, role)
    variable = f"FLAGKIT_{role.upper()}_KEY"
    key = os.environ.get(variable)
    if not key and sys.stdin.isatty():
        key = click.prompt(f"{role.capitalize()} key", hide_input=True, err=True)
    if not key:
        raise click.UsageError(f"no {role} key: give it in {variable} or with --key-file")
    return str(key)


class Service:
    """The service at ``url``. Raises: ConfigError for a bad URL or key."""

    def __init__(self, url: str, key: str | None, *, insecure: bool, clock: Clock | None = None) -> None:
        self.url = url
        self._key = key
        self._insecure = insecure
        self._clock = clock or SystemClock()

    def get(self, path: str, query: Mapping[str, str], role: str = "read") -> Any:
        """The answer to a GET, decoded. Raises: ClickException when there is none, saying which key it needs."""
        from flagkit.http import NoReply

        wire = self._wire(f"{path}?{urlencode(query)}" if query else path)
        try:
            reply = wire.get(deadline_s=_DEADLINE_S, max_bytes=_MAX_BYTES)
        except NoReply as error:
            raise click.ClickException(plain(str(error))) from None
        finally:
            wire.close()
        return self._decoded(reply, role)

    def post(self, path: str, document: Mapping[str, Any], role: str = "admin") -> Any:
        """The answer to a POST that may be sent several times and is done once, decoded. Raises: ClickException."""
        from flagkit.http import NoReply

        wire = self._wire(path)
        body, headers = json.dumps(document).encode(), {"Content-Type": "application/json"}
        headers["Idempotency-Key"] = os.urandom(16).hex()
        try:
            for left in reversed(range(_TRIES)):
                try:
                    reply = wire.post(
                        body, headers, deadline_s=_ORDER_DEADLINE_S, max_bytes=_MAX_BYTES, readable=range(200, 600)
                    )
                except NoReply as error:
                    if error.reason not in _UNSURE:
                        raise click.ClickException(plain(str(error))) from None
                    if not left:
                        unsure = "whether it was done is not known; to see, ask for the history, or order it again"
                        raise click.ClickException(plain(f"{error}; {unsure}")) from None
                else:
                    if reply.status not in _PASSING or not left:
                        return self._decoded(reply, role)
                self._clock.wait(threading.Event(), _WAIT_S)
            raise AssertionError("the last try answers or raises")
        finally:
            wire.close()

    def _wire(self, path: str) -> Wire:
        from flagkit.http import Wire  # the HTTP library costs a quarter of a second

        found = _URL(self.url)
        # Behind a proxy the service may have a path of its own. What else a URL may not have, Wire says.
        origin, base = (found[1], found[2]) if found else (self.url, "")
        return Wire(origin, base + path, key=self._key, allow_insecure_http=self._insecure)

    def _decoded(self, reply: Reply, role: str) -> Any:
        if reply.status in (401, 403):
            raise click.ClickException(plain(f"{self.url}: not the {role} key (give it in FLAGKIT_{role.upper()}_KEY)"))
        try:
            answer = strict_json(reply.body)
        except ValueError:
            answer = None
        if reply.status != 200:
            said = answer.get("error") if isinstance(answer, dict) else None
            why = said if isinstance(said, str) else f"answered with status {reply.status}"
            raise click.ClickException(plain(f"{self.url}: {why}"))
        if answer is None:
            raise click.ClickException(plain(f"{self.url}: the answer is not JSON"))
        return answer


def key_in(path: str, role: str) -> str:
    """The key in a file: its text, or the one for ``role`` if it is JSON. Raises: ClickException."""
    text = documents.read(path).decode("utf-8", "replace").strip()
    try:
        keys = strict_json(text)
    except ValueError:
        return text
    key = keys.get(role) if isinstance(keys, dict) else None
    if not isinstance(key, str):
        raise click.ClickException(plain(f"{path}: no {role} key in it"))
    return key
