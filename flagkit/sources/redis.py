"""Definitions in Redis: the document under one key, its changes told on a channel. For fleets past one host.

Owns the connections, which redis-py makes (extra ``redis``): one for each fetch, and one that listens. ``flagkit
publish`` puts the document there and tells of it in one transaction. A password never leaves it: what is shown, logged
or raised is made of the address without it, and redis-py's own messages are not passed on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from flagkit.errors import ConfigError, FetchError
from flagkit.sources.redis_address import redis_address, tls_settings
from flagkit.sources.source import Alive, Answer, Changed, Fetched, Missed, News, NotModified, checked_dialect

T = TypeVar("T")

_HEARTBEAT_S: Final = 15.0
_MOST_MISSED: Final = 3  # heartbeats
_SHUT_RDWR: Final = 2
_MAX_NAME: Final = 512

_SENTENCES: Final = {
    "auth": "refuses the user name, the password or the command",
    "bad_response": "does not answer as Redis does",
    "deadline": "no complete answer within the deadline",
    "dns": "the host name cannot be resolved",
    "loading": "is still loading its data",
    "refused": "connection refused",
    "refused_command": "refuses the command; under the key must be a string",
    "reset": "the connection was closed",
    "tls": "no trusted TLS connection; the certificate, its name or its dates are wrong (ca_file= says whom to trust)",
}
_LASTING: Final = frozenset({"auth", "refused_command", "tls"})


class Redis:
    """Definitions from Redis. Each process holds one connection, which listens.

    Args:
        url: ``redis://HOST[:PORT][/DATABASE]``, or ``rediss://`` with TLS; a user name and password before an ``@`` if
            need be. No query and no fragment.
        key: what the document is under.
        channel: where changes are told; None: it is called like the key.
        dialect: the format of the document.
        ca_file: PEM file of certificates trusted in addition to the public ones.
        allow_insecure_redis: allow ``redis://`` beyond loopback, in the clear.

    Raises: ConfigError naming the field; ModuleNotFoundError without the extra ``redis``.
    """

    local = False
    tells = True

    def __init__(
        self,
        url: str,
        *,
        key: str = "flagkit:definitions",
        channel: str | None = None,
        dialect: str = "native",
        ca_file: str | None = None,
        allow_insecure_redis: bool = False,
    ) -> None:
        self.dialect = checked_dialect(dialect)
        self.key = _checked_name("key", key)
        self.channel = self.key if channel is None else _checked_name("channel", channel)
        self._address = redis_address(url, allow_insecure_redis=allow_insecure_redis)
        self.name = f"{self._address.shown} {self.key}"
        # Now and not in a thread: a process that forks in the middle of an import gives its child a lock for ever.
        import redis

        from flagkit.http.lookup import look_up

        self._redis = redis
        self._look_up = look_up
        self._tls = tls_settings(ca_file) if self._address.tls else {}
        self._open: set[Any] = set()

    def __repr__(self) -> str:
        return f"sources.Redis({self.name!r})"

    @property
    def identity(self) -> str:
        """See ``Source``: another user may be shown another document."""
        password = self._address.password
        return self.name if password is None else f"{self.name}#{self._address.user}#{password.digest}"

    def fetch(self, validator: str | None, *, deadline_s: float, max_bytes: int) -> Answer:
        """See ``Source``. The document is read each time; by the validator, its digest, nobody parses it in vain."""
        from hashlib import sha256

        def ask(connection: Any) -> tuple[int, bytes | None]:
            size = _asked(connection, "STRLEN", self.key)
            return size, _asked(connection, "GET", self.key) if size <= max_bytes else None

        connection, (size, data) = self._connected(deadline_s, ask)
        self._close(connection)
        if size > max_bytes or (data is not None and len(data) > max_bytes):
            raise FetchError("too_large", f"{self.name}: the document is larger than {max_bytes:,} bytes")
        if data is None:
            raise FetchError("missing", f"{self.name}: there is nothing under the key")
        etag = f'"{sha256(data).hexdigest()[:32]}"'  # what publishers call it in their news
        return NotModified() if etag == validator else Fetched(data, etag)

    def listen(self, mark: str | None, *, deadline_s: float, max_bytes: int) -> _Channel:  # noqa: ARG002 - no past
        """See ``Teller``. A channel has no past: the first news are ``Missed``."""
        connection, _ = self._connected(deadline_s, lambda each: _asked(each, "SUBSCRIBE", self.channel))
        return _Channel(self, connection, max_bytes)

    def client(self, deadline_s: float) -> Any:
        """A client of redis-py for this address, which connects at its first command."""
        redis, address = self._redis, self._address
        return redis.Redis(
            host=address.host,
            port=address.port,
            db=address.database,
            username=address.user,
            password=None if address.password is None else address.password.reveal(),
            socket_timeout=deadline_s,
            socket_connect_timeout=deadline_s,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
            protocol=2,
            **self._tls,
        )

    def put(self, make: Callable[[bytes | None, int], tuple[bytes, bytes] | None], *, deadline_s: float) -> int | None:
        """Replace the document and tell of it, in one transaction; return how many are told, None when nobody is.

        Args: make, from the document that is there (None: none) and the number of those who listen, the new one and
            the news; None: it stays. Called again when somebody else was quicker.
        Raises: FetchError; what ``make`` raises.
        """
        client = self.client(deadline_s)

        def swap(pipe: Any) -> bool:
            made = make(pipe.get(self.key), listeners)
            pipe.multi()
            if made is not None:
                pipe.set(self.key, made[0])
                pipe.publish(self.channel, made[1])
            return made is not None

        try:
            ((_, listeners),) = client.pubsub_numsub(self.channel)
            return listeners if client.transaction(swap, self.key, value_from_callable=True) else None
        except (self._redis.RedisError, OSError) as error:
            reason = self._reason(error)
        finally:
            client.close()
        raise self._failure(reason)

    def close(self) -> None:
        """Hang up, whichever thread is connected."""
        for connection in self._open.copy():
            _hang_up(connection)

    def after_fork(self) -> None:
        """Close the descriptors inherited from the parent, saying nothing on them."""
        connections, self._open = self._open, set()
        for connection in connections:
            sock, connection._sock = connection._sock, None
            descriptor = -1 if sock is None else sock.detach()
            if descriptor >= 0:
                os.close(descriptor)

    def _connected(self, deadline_s: float, ask: Callable[[Any], T]) -> tuple[Any, T]:
        """A new connection, and what it answered. All of it ends by the deadline. Raises: FetchError."""
        ends_s = time.monotonic() + deadline_s
        connection = watchdog = None
        answered = False
        try:
            self._look_up(self._address.host, self._address.port, deadline_s)  # redis-py's own has no end
            connection = self.client(max(0.001, ends_s - time.monotonic())).connection_pool.make_connection()
            self._open.add(connection)
            watchdog = _watchdog(deadline_s, connection)
            connection.connect()
            answer = ask(connection)
            answered = True
            return connection, answer
        except (self._redis.RedisError, OSError) as error:
            reason = "deadline" if time.monotonic() >= ends_s else self._reason(error)
        finally:
            if watchdog is not None:
                watchdog.cancel()
            if connection is not None and not answered:
                self._close(connection)
        # Outside the handler, so that what redis-py says, and holds, is not its context.
        raise self._failure(reason)

    def _reason(self, error: BaseException) -> str:
        import socket
        import ssl

        exceptions = self._redis.exceptions
        if isinstance(error, exceptions.BusyLoadingError):
            return "loading"
        if isinstance(
            error, (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)
        ):
            return "auth"
        if isinstance(error, exceptions.ResponseError):
            return "refused_command"
        if isinstance(error, exceptions.InvalidResponse):
            return "bad_response"
        kinds: dict[str, type[BaseException] | tuple[type[BaseException], ...]] = {
            "dns": socket.gaierror,
            "tls": ssl.SSLError,
            "deadline": (TimeoutError, exceptions.TimeoutError),
            "refused": ConnectionRefusedError,
        }
        while True:
            for reason, kind in kinds.items():
                if isinstance(error, kind):
                    return reason
            inner = error.__cause__ or error.__context__
            if inner is None:
                return "reset"
            error = inner

    def _failure(self, reason: str) -> FetchError:
        return FetchError(reason, f"{self.name}: {_SENTENCES[reason]}", lasting=reason in _LASTING)

    def _close(self, connection: Any) -> None:
        self._open.discard(connection)
        with suppress(self._redis.RedisError, OSError):
            connection.disconnect()


class _Channel:
    """A subscribed connection as news. It asks for a sign of life when there is none."""

    silence_s = _MOST_MISSED * _HEARTBEAT_S

    def __init__(self, source: Redis, connection: Any, max_bytes: int) -> None:
        self._source = source
        self._connection = connection
        self._max_bytes = max_bytes
        self._subscribed = False

    def next(self, timeout_s: float) -> News:
        if not self._subscribed:
            self._subscribed = True
            return Missed()
        source = self._source
        ends_s = time.monotonic() + timeout_s
        try:
            while (left_s := ends_s - time.monotonic()) > 0:
                if not self._connection.can_read(min(left_s, _HEARTBEAT_S)):
                    self._connection.send_command("PING")
                    continue
                kind, *_, data = self._connection.read_response()
                if kind == b"pong":
                    return Alive()
                if kind == b"message":
                    return Changed(data) if len(data) <= self._max_bytes else Missed()
            reason = "deadline"
        except (source._redis.RedisError, OSError, ValueError) as error:
            reason = source._reason(error)
        raise source._failure(reason)

    def hang_up(self) -> None:
        _hang_up(self._connection)

    def close(self) -> None:
        self._source._close(self._connection)


def _checked_name(field: str, name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise ConfigError(field, name, f"a string of 1 to {_MAX_NAME} printable characters")
    return name


def _asked(connection: Any, *command: str) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def _watchdog(deadline_s: float, connection: Any) -> threading.Timer | None:
    """Hangs up at the deadline: redis-py's own timeouts begin anew with every byte."""
    watchdog = threading.Timer(deadline_s, _hang_up, (connection,))
    watchdog.daemon = True
    try:
        watchdog.start()
    except RuntimeError:  # no threads any more
        return None
    return watchdog


def _hang_up(connection: Any) -> None:
    sock = connection._sock
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(_SHUT_RDWR)
