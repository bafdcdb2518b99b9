"""Features of an Unleash server, by conditional GET of its client API.

Owns what Unleash's statuses mean to a poller, telling the server once that this application is there, and what serves
until the first answer. ``unleash_wire`` knows addresses and headers; the dialect ``unleash`` reads what comes.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from flagkit.boundary import contained
from flagkit.errors import ConfigError, FetchError
from flagkit.http import NoReply, Reply, Wire
from flagkit.log import logger
from flagkit.sources.source import Answer, Fetched, NotModified
from flagkit.unleash_wire import UnleashServer, checked_name, host_name

_PASSING: Final = frozenset({408, 425, 429})
_REGISTER_S: Final = 10.0
_INTERVAL_S: Final = 30
_MAX_ANSWER: Final = 64 * 1024
#: Strategies that are decided here, as the server lists them.
_STRATEGIES: Final = (
    *("default", "userWithId", "gradualRolloutUserId", "gradualRolloutSessionId", "gradualRolloutRandom"),
    *("flexibleRollout", "remoteAddress", "applicationHostname"),
)


class Unleash:
    """Features of one Unleash environment: that of the token.

        client = flagkit.Client(source=sources.Unleash("https://unleash.example.com/api", token="..."))

    Args:
        url: the server's API, ``https://unleash.example.com/api``. https (http on loopback), no query or fragment.
        token: a client token (backend token).
        app_name: what Unleash lists this application as, and what ``appName`` is where a context does not say.
        instance_id: what Unleash lists this process as; not given: host name and process id.
        project: only the features of this project, or of these.
        custom_headers: sent along; their values are secrets and never shown.
        register: tell the server once in every process that this application is there. In a thread of its own, and
            without consequence when it fails: it is logged once.
        bootstrap: what serves until the server has answered once: a document as mapping or bytes, or the path of one.
        ca_file: PEM file of certificates trusted in addition to the public ones.
        allow_insecure_http: allow http beyond loopback, in the clear.

    Raises: ConfigError naming the field.
    """

    dialect = "unleash"
    local = False

    def __init__(
        self,
        url: str,
        *,
        token: str,
        app_name: str = "flagkit",
        instance_id: str | None = None,
        project: str | list[str] | None = None,
        custom_headers: Mapping[str, str] | None = None,
        register: bool = True,
        bootstrap: Mapping[str, Any] | bytes | str | os.PathLike[str] | None = None,
        ca_file: str | None = None,
        allow_insecure_http: bool = False,
    ) -> None:
        self._server = UnleashServer(
            url,
            token=token,
            app_name=app_name,
            instance_id=instance_id,
            custom_headers=custom_headers,
            ca_file=ca_file,
            allow_insecure_http=allow_insecure_http,
        )
        self._query = _query(project)
        self._bootstrap = _document(bootstrap)
        self._register = register is True
        #: Attempts to register that failed, in this process.
        self.failed_registrations = 0
        self._log = logger()
        self._registered = False
        self._wire = self._server.wire("/client/features", query=self._query)
        self.name = self._wire.url

    def __repr__(self) -> str:
        return f"sources.Unleash({self._server.url!r})"

    @property
    def identity(self) -> str:
        """See ``Source``: another token means another environment."""
        return self._wire.identity

    @property
    def facts(self) -> Mapping[str, str]:
        """See ``Source``: what strategies and constraints may ask of this application."""
        return {"appName": self._server.app_name, "hostname": host_name()}

    def bootstrap(self) -> bytes | None:
        """See ``Bootstrapped``."""
        return self._bootstrap

    def fetch(self, validator: str | None, *, deadline_s: float, max_bytes: int) -> Answer:
        """See ``Source``. A 304 counts only when this call sent a validator."""
        try:
            reply = self._wire.get(etag=validator, deadline_s=deadline_s, max_bytes=max_bytes)
        except NoReply as error:
            raise FetchError(error.reason, str(error), lasting=error.lasting) from None
        if reply.status == 304 and validator is not None:
            answer: Answer = NotModified(reply.server_ms)
        elif reply.status == 200 and reply.media_type == "application/json":
            answer = Fetched(reply.body, reply.etag, reply.server_ms)
        else:
            raise self._refusal(reply)
        if self._register and not self._registered:
            self._registered = True
            self._start_registering()
        return answer

    def close(self) -> None:
        self._wire.close()

    def after_fork(self) -> None:
        """Another process, which the server does not know yet. Assigns only."""
        self._registered = False
        self.failed_registrations = 0
        self._wire.after_fork()

    def _refusal(self, reply: Reply) -> FetchError:
        status = reply.status
        if status == 304:
            return FetchError("spurious_304", f"{self.name}: answered 304 to a request without a validator")
        if status == 200:
            return FetchError("not_json", f"{self.name}: answered without JSON")
        lasting = 400 <= status < 500 and status not in _PASSING
        sentence = f"{self.name}: answered with status {status}"
        return FetchError(f"http_{status}", sentence, retry_after_s=reply.retry_after_s, lasting=lasting)

    # -- registering -------------------------------------------------------------------------------------------------

    def _start_registering(self) -> None:
        # A thread, or whoever waits for definitions would wait for this too. It ends by its deadline.
        wire = self._server.wire("/client/register")
        thread = threading.Thread(target=self._registering, args=(wire,), name="flagkit-register", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is on its way out
            self.failed_registrations += 1

    def _registering(self, wire: Wire) -> None:
        started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body = {
            **self._server.described(),
            "strategies": list(_STRATEGIES),
            "started": started,
            "interval": _INTERVAL_S,
        }
        headers = {"Content-Type": "application/json"}
        try:
            data = json.dumps(body).encode()
            reply = wire.post(data, headers, deadline_s=_REGISTER_S, max_bytes=_MAX_ANSWER, readable=range(0))
            why = None if 200 <= reply.status < 300 else f"status {reply.status}"
        except NoReply as error:
            why = error.reason
        finally:
            wire.close()
        if why is not None:
            self.failed_registrations += 1
            said = "source %s: could not register, which changes nothing else: %s"
            contained(self._log.warning, said, self.name, why, otherwise=None)


def _query(project: object) -> str | None:
    if project is None:
        return None
    projects = [project] if isinstance(project, str) else project
    if not isinstance(projects, list) or not projects:
        raise ConfigError("project", project, "the name of a project, or a list of them")
    from urllib.parse import urlencode  # 3 ms, and only those who ask for it need it

    return urlencode([("project", checked_name("project", each)) for each in projects])


def _document(bootstrap: object) -> bytes | None:
    """A document from whatever was given. Read now, so that a mistake shows at construction."""
    if bootstrap is None or isinstance(bootstrap, bytes):
        return bootstrap
    try:
        if isinstance(bootstrap, Mapping):
            return json.dumps(dict(bootstrap), allow_nan=False).encode()
        if isinstance(bootstrap, (str, os.PathLike)):
            with open(bootstrap, "rb") as file:
                return file.read()
    except (OSError, TypeError, ValueError, RecursionError):
        pass
    raise ConfigError("bootstrap", bootstrap, "a document as mapping or bytes, or the path of a file that can be read")
