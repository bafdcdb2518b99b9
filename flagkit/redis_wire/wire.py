"""``RedisWire``: connections to one Redis, whatever is done with which ends by a deadline.

Owns the sockets, which redis-py makes, and the rule that no password and nothing redis-py says leaves it: what is
shown, logged or raised is made of the address without it. What is asked is its users' business.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from flagkit.errors import ConfigError, FetchError
from flagkit.redis_wire.address import RedisAddress, redis_address, tls_settings

T = TypeVar("T")

_SHUT_RDWR: Final = 2
_MAX_NAME: Final = 512


class RedisWire:
    """One address, and the connections to it and to the rest of its cluster. Any thread.

    Args:
        url: ``redis://HOST[:PORT][/DATABASE]``, or ``rediss://`` with TLS; a user name and password before an ``@`` if
            need be. No query and no fragment.
        label: what is kept there, for ``name``. ca_file: PEM file of certificates trusted in addition to the public
            ones. allow_insecure_redis: allow ``redis://`` beyond loopback, in the clear.

    Raises: ConfigError naming the field; ModuleNotFoundError without the extra ``redis``.
    """

    __slots__ = ("_failure", "_look_up", "_open", "_reason_of", "_redis", "_tls", "address", "insecure", "name")

    def __init__(self, url: str, *, label: str, ca_file: str | None, allow_insecure_redis: bool) -> None:
        self.address = redis_address(url, allow_insecure_redis=allow_insecure_redis)
        self.insecure = allow_insecure_redis
        self.name = f"{self.address.shown} {label}"
        # Now and not in a thread: a process that forks in the middle of an import gives its child a lock for ever.
        import redis

        from flagkit.http.lookup import look_up
        from flagkit.redis_wire.reasons import failure, reason_of

        self._redis = redis
        self._look_up = look_up
        self._failure, self._reason_of = failure, reason_of
        self._tls = tls_settings(ca_file) if self.address.tls else {}
        self._open: set[Any] = set()

    @property
    def identity(self) -> str:
        """What tells this address and user from others: the name, with a digest of the password."""
        password = self.address.password
        return self.name if password is None else f"{self.name}#{self.address.user}#{password.digest}"

    @property
    def errors(self) -> tuple[type[BaseException], ...]:
        """What redis-py and the network raise."""
        return (self._redis.RedisError, OSError)

    def client(self, deadline_s: float, address: RedisAddress | None = None) -> Any:
        """A client of redis-py for this address or another, which connects at its first command."""
        redis, address = self._redis, address or self.address
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

    def within(self, deadline_s: float, work: Callable[[Deadline], T]) -> T:
        """What ``work`` answers, all of which ends by the deadline; what it does not ``keep`` is closed.

        Raises: FetchError in place of what redis-py and the network raise; what else ``work`` raises.
        """
        deadline = Deadline(self, deadline_s)
        done = False
        try:
            answer = work(deadline)
            done = True
            return answer
        except self.errors as error:
            reason = "deadline" if deadline.left_s() <= 0 else self._reason_of(error)
        finally:
            deadline._end(keep=done)
        # Outside the handler, so that what redis-py says, and holds, is not its context.
        raise self.failure(reason)

    def answers(self, connection: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The answers to commands that are sent together. To be used ``within`` a deadline.

        Raises: FetchError when one is refused; what redis-py and the network do.
        """
        answers = talk(connection, commands)
        refusal = first_refusal(answers)
        if refusal is not None:
            raise self.failure_of(refusal)
        return answers

    def failure(self, reason: str) -> FetchError:
        return self._failure(self.name, reason)

    def failure_of(self, error: BaseException) -> FetchError:
        return self.failure(self._reason_of(error))

    def close_one(self, connection: Any) -> None:
        self._open.discard(connection)
        with suppress(*self.errors):
            connection.disconnect()

    def close(self) -> None:
        """Hang up, whichever thread is connected; it notices."""
        for connection in self._open.copy():
            hang_up(connection)

    def after_fork(self) -> None:
        """Close the descriptors inherited from the parent, saying nothing on them."""
        connections, self._open = self._open, set()
        for connection in connections:
            sock, connection._sock = connection._sock, None
            descriptor = -1 if sock is None else sock.detach()
            if descriptor >= 0:
                os.close(descriptor)


class Deadline:
    """A moment at which all connections opened or used under it are hung up. One thread, but for that."""

    __slots__ = ("_connections", "_ends_s", "_kept", "_watchdog", "_wire")

    def __init__(self, wire: RedisWire, deadline_s: float) -> None:
        self._wire = wire
        self._ends_s = time.monotonic() + deadline_s
        self._connections: list[Any] = []
        self._kept: set[Any] = set()
        self._watchdog: threading.Timer | None = None

    def left_s(self) -> float:
        return self._ends_s - time.monotonic()

    def connect(self, address: RedisAddress | None = None) -> Any:
        """A new connection, to the wire's address or another. Raises: what redis-py and the network do."""
        wire = self._wire
        to = address or wire.address
        found = wire._look_up(to.host, to.port, self._time_s())  # redis-py's own has no end
        connection = wire.client(self._time_s(), to).connection_pool.make_connection()
        connection.socket_connect_timeout = self._time_s() / len(found)  # it tries them one after another
        wire._open.add(connection)
        self._watch(connection)
        with readable():
            connection.connect()
        return connection

    def use(self, connection: Any) -> Any:
        """An open connection, if it still is one; None, and it is closed, if it is not. Raises: TimeoutError."""
        self._watch(connection)
        left_s = self._time_s()
        sock = connection._sock
        with suppress(*self._wire.errors):
            if sock is not None and not connection.can_read(0):
                sock.settimeout(left_s)
                return connection
        self._wire.close_one(connection)  # closed by the other end, or it says what nobody asked for
        return None

    def keep(self, connection: Any) -> Any:
        """Leave the connection open if all goes well."""
        self._kept.add(connection)
        return connection

    def _time_s(self) -> float:
        left_s = self.left_s()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def _watch(self, connection: Any) -> None:
        """redis-py's own timeouts begin anew with every byte."""
        self._connections.append(connection)
        if self._watchdog is None:
            self._watchdog = threading.Timer(max(0.0, self.left_s()), self._over)
            self._watchdog.daemon = True
            with suppress(RuntimeError):  # no threads any more
                self._watchdog.start()

    def _over(self) -> None:
        for connection in self._connections.copy():
            hang_up(connection)

    def _end(self, *, keep: bool) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        for connection in self._connections:
            if not keep or connection not in self._kept:
                self._wire.close_one(connection)


def talk(connection: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """The answers to commands that are sent together; a refusal is an answer too, an exception among them.

    Raises: what redis-py and the network do.
    """
    from redis.exceptions import ResponseError

    connection.send_packed_command(connection.pack_commands(commands))
    answers: list[Any] = []
    with readable():
        for _ in commands:
            try:
                answers.append(connection.read_response())
            except ResponseError as refusal:
                answers.append(refusal)
    return answers


def first_refusal(answers: Sequence[Any]) -> BaseException | None:
    """The first exception among answers, those inside the answer to EXEC included."""
    for answer in answers:
        if isinstance(answer, BaseException):
            return answer
        if isinstance(answer, list) and (refusal := first_refusal(answer)) is not None:
            return refusal
    return None


def asked(connection: Any, *command: Any) -> Any:
    """The answer to one command. Raises: what redis-py and the network do, a refusal included."""
    connection.send_command(*command)
    with readable():
        return connection.read_response()


@contextmanager
def readable() -> Iterator[None]:
    """Around reading answers: redis-py trips over numbers that are none, and over answers nested without end."""
    try:
        yield
    except (ValueError, RecursionError) as error:
        from redis.exceptions import InvalidResponse

        raise InvalidResponse from error


def hang_up(connection: Any) -> None:
    """Have whoever uses the connection, on whichever thread, notice that it is over. Raises: nothing."""
    sock = connection._sock
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(_SHUT_RDWR)


def checked_name(field: str, name: object) -> str:
    """The name of a key or channel. Raises: ConfigError."""
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise ConfigError(field, name, f"a string of 1 to {_MAX_NAME} printable characters")
    return name
