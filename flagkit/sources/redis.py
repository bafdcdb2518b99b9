"""Definitions in Redis: the document under one key, its changes told on a channel. For fleets past one host.

Owns what is asked there, on one connection for each fetch and one that listens. ``flagkit publish`` puts the document
there and tells of it in one transaction. ``redis_wire`` makes the connections (extra ``redis``), keeps the deadlines,
and the password to itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from flagkit.errors import FetchError
from flagkit.redis_wire import Deadline, RedisWire, asked, checked_name, hang_up
from flagkit.sources.source import Alive, Answer, Changed, Fetched, Missed, News, NotModified, checked_dialect

_HEARTBEAT_S: Final = 15.0
_MOST_MISSED: Final = 3  # heartbeats


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
        self.key = checked_name("key", key)
        self.channel = self.key if channel is None else checked_name("channel", channel)
        self._wire = RedisWire(url, label=self.key, ca_file=ca_file, allow_insecure_redis=allow_insecure_redis)
        self.name = self._wire.name

    def __repr__(self) -> str:
        return f"sources.Redis({self.name!r})"

    @property
    def identity(self) -> str:
        """See ``Source``: another user may be shown another document."""
        return self._wire.identity

    def fetch(self, validator: str | None, *, deadline_s: float, max_bytes: int) -> Answer:
        """See ``Source``. The document is read each time; by the validator, its digest, nobody parses it in vain."""
        from hashlib import sha256

        def ask(deadline: Deadline) -> tuple[int, bytes | None]:
            connection = deadline.connect()
            size = asked(connection, "STRLEN", self.key)
            return size, asked(connection, "GET", self.key) if size <= max_bytes else None

        size, data = self._wire.within(deadline_s, ask)
        if size > max_bytes or (data is not None and len(data) > max_bytes):
            raise FetchError("too_large", f"{self.name}: the document is larger than {max_bytes:,} bytes")
        if data is None:
            raise FetchError("missing", f"{self.name}: there is nothing under the key")
        etag = f'"{sha256(data).hexdigest()[:32]}"'  # what publishers call it in their news
        return NotModified() if etag == validator else Fetched(data, etag)

    def listen(self, mark: str | None, *, deadline_s: float, max_bytes: int) -> _Channel:  # noqa: ARG002 - no past
        """See ``Teller``. A channel has no past: the first news are ``Missed``."""

        def subscribe(deadline: Deadline) -> Any:
            connection = deadline.keep(deadline.connect())
            asked(connection, "SUBSCRIBE", self.channel)
            return connection

        return _Channel(self._wire, self._wire.within(deadline_s, subscribe), max_bytes)

    def client(self, deadline_s: float) -> Any:
        """A client of redis-py for this address, which connects at its first command."""
        return self._wire.client(deadline_s)

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
        except self._wire.errors as error:
            failure = self._wire.failure_of(error)
        finally:
            client.close()
        raise failure

    def close(self) -> None:
        """Hang up, whichever thread is connected."""
        self._wire.close()

    def after_fork(self) -> None:
        self._wire.after_fork()


class _Channel:
    """A subscribed connection as news. It asks for a sign of life when there is none."""

    silence_s = _MOST_MISSED * _HEARTBEAT_S

    def __init__(self, wire: RedisWire, connection: Any, max_bytes: int) -> None:
        self._wire = wire
        self._connection = connection
        self._max_bytes = max_bytes
        self._subscribed = False

    def next(self, timeout_s: float) -> News:
        if not self._subscribed:
            self._subscribed = True
            return Missed()
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
            failure = self._wire.failure("deadline")
        except self._wire.errors as error:
            failure = self._wire.failure_of(error)
        except ValueError:  # hung up on, in the middle
            failure = self._wire.failure("reset")
        raise failure

    def hang_up(self) -> None:
        hang_up(self._connection)

    def close(self) -> None:
        self._wire.close_one(self._connection)
