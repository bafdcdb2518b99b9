"""``Leash``: requests and urllib3, held so short that an exchange cannot outlive its deadline.

Owns the sockets. urllib3's timeouts are per read; here every connect, write and read gets only what is left of the
whole exchange, so that a server dripping a byte at a time is cut off like one that hangs. No thread watches: it works
during the interpreter's exit too. The only module that imports ``requests``; the first ``Wire`` loads it.
"""

from __future__ import annotations

import errno
import http.client
import io
import os
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib import metadata
from queue import SimpleQueue
from typing import Any, Final
from weakref import WeakKeyDictionary

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from flagkit.http.address import queried
from flagkit.http.lookup import forget_lookups, look_up
from flagkit.http.reply import NoReply, Reply, heading, read_body
from flagkit.http.secret import Secret

_TLS_RECORD: Final = 16 * 1024
_UNCONNECTED: Final = "flagkit: no connection"
_FAILURES: Final = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)

#: Every connected socket, with the process that opened it.
_OPEN: Final[WeakKeyDictionary[socket.socket, int]] = WeakKeyDictionary()


class Leash(HTTPAdapter):
    """Sends single requests through requests' transport layer.

    Not through its ``Session``, which reads .netrc, proxies and certificates from the environment, keeps cookies, and
    downloads the whole body of a redirect it was told not to follow.
    """

    def __init__(
        self, url: str, ca_text: str | None, target: Secret | None = None, *, query: Secret | None = None
    ) -> None:
        """target: what is asked for in place of the URL's path. query: what is asked for behind it, at ``url`` only."""
        self._target = target if query is None else queried(url, query)
        self._query = query
        self._tls = _tls(ca_text) if url.startswith("https:") else None
        self.user_agent = f"flagkit/{library_version()} python"
        super().__init__(pool_connections=1, pool_maxsize=1)

    def close(self) -> None:
        # One by one: urllib3 closes connections when their pool is collected, which no longer works at exit.
        for key in self.poolmanager.pools.keys():  # noqa: SIM118 - not a mapping
            self.poolmanager.pools[key].close()
        super().close()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **settings: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._tls, **settings)
        kinds = {"http": _Pool, "https": _TlsPool}
        self.poolmanager.pool_classes_by_scheme = {each: partial(kinds[each], target=self._target) for each in kinds}

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """What urllib3 is told, and logs, to ask for: of a query nothing, which the connection adds."""
        told = super().request_url(request, proxies)
        return told if self._query is None else told.partition("?")[0]

    def cert_verify(self, conn: object, url: object, verify: object, cert: object) -> None:
        """Nothing: our context verifies always. requests would parse the public certificates again per connection."""

    def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        ends_s: float,
        max_bytes: int,
        readable: range,
    ) -> Reply:
        """The answer to one request, its body read when the status is among the ``readable``. Raises: NoReply."""
        try:
            answer = self._begin(method, url, headers, body, ends_s)
            try:
                reply = heading(answer.status_code, answer.headers)
                if reply.status in readable:
                    read = read_body(answer.raw, answer.headers, url=url, ends_s=ends_s, max_bytes=max_bytes)
                    return reply._replace(body=read)
                if reply.status == 304:
                    answer.raw.read(1, decode_content=False)  # there is none; asking hands the connection back
                return reply
            finally:
                answer.close()  # with bytes still unread this closes the connection, whatever they are
        except _FAILURES as error:
            reason, written = _reason(error), not _is_unconnected(error)
        except Exception as error:  # nobody expects it; it goes on, without the key in its traceback
            _conceal(error)
            raise
        # Outside the handler, so that the library's exception, which holds the headers and the key, is not its context.
        raise NoReply(reason, url, written=written)

    def open(self, url: str, headers: Mapping[str, str], *, ends_s: float) -> tuple[Reply, Flow | None]:
        """The answer to a GET and, when the status is 200, its body, which may have no end. Raises: NoReply."""
        try:
            answer = self._begin("GET", url, headers, None, ends_s)
            reply = heading(answer.status_code, answer.headers)
            body: Any = answer.raw._original_response
            plain = answer.headers.get("Content-Encoding", "identity") == "identity"
            if reply.status == 200 and plain and body.fp is not None:
                return reply, Flow(self, answer, body, url)
            answer.close()
            return reply, None
        except _FAILURES as error:
            reason = _reason(error)
        except Exception as error:
            _conceal(error)
            raise
        raise NoReply(reason, url)

    def _begin(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, ends_s: float
    ) -> requests.Response:
        """The answer as far as its headers."""
        asked = url if self._query is None else f"{url}?{self._query.reveal()}"
        request = requests.Request(method, asked, headers=dict(headers), data=body).prepare()
        timeout: Any = urllib3.Timeout(total=_left_s(ends_s))
        return self.send(request, stream=True, timeout=timeout)

    def abandon(self) -> None:
        """In a forked child: close the descriptors inherited from the parent, sending nothing. Takes no lock."""
        forget_lookups()
        for reference in _OPEN.keyrefs():
            sock = reference()
            if sock is not None and _OPEN.get(sock) != os.getpid():
                descriptor = sock.detach()
                if descriptor >= 0:
                    os.close(descriptor)


class Flow:
    """The body of an answer, read as it comes. One thread; ``hang_up`` from any."""

    __slots__ = ("_answer", "_body", "_leash", "_reader", "_url")

    def __init__(self, leash: Leash, answer: requests.Response, body: Any, url: str) -> None:
        self._leash = leash
        self._answer = answer
        self._url = url
        self._body: http.client.HTTPResponse = body
        self._reader: _Reader = body.fp.raw

    def read(self, ends_s: float) -> bytes:
        """What is there, as soon as there is something; nothing at the end.

        Raises: NoReply; deadline when nothing came until ``ends_s`` (monotonic), after which nothing can be read.
        """
        self._reader._ends_s = ends_s
        try:
            return self._body.read1(_TLS_RECORD)
        except (http.client.IncompleteRead, ValueError):  # ValueError: TLS was hung up on
            reason = "truncated"
        except _FAILURES as error:
            reason = _reason(error)
        raise NoReply(reason, self._url)

    def hang_up(self) -> None:
        """Have ``read``, whichever thread is in it, end at once. Takes no lock, sends nothing. Raises: nothing."""
        with suppress(OSError):
            self._reader._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(*_FAILURES):
            self._answer.close()
        self._leash.close()


def _conceal(error: BaseException) -> None:
    """Cut the frames of ``http.client`` and below out of a traceback: in them the key is bytes, for anyone to print."""
    chain: BaseException | None = error
    while chain is not None:
        frame = chain.__traceback__
        while frame is not None:
            following = frame.tb_next
            if following is not None and following.tb_frame.f_code.co_filename == http.client.__file__:
                frame.tb_next = None
                break
            frame = following
        chain = chain.__context__


class _Leashed(HTTPConnection):
    """A connection whose ``timeout`` is always what is left of the exchange that urllib3 set it for."""

    _ends_s: float | None = None
    #: What is asked for, where that is a secret: urllib3, which logs it, is told something else.
    target: Secret | None = None

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        if self.target is None:
            super().putrequest(method, url, *args, **kwargs)
        else:  # past urllib3, whose frames a traceback shows
            http.client.HTTPConnection.putrequest(self, method, self.target.reveal(), *args, **kwargs)

    @property
    def timeout(self) -> float | None:
        return None if self._ends_s is None else _left_s(self._ends_s)

    @timeout.setter
    def timeout(self, left_s: float | None) -> None:
        self._ends_s = None if left_s is None else time.monotonic() + left_s

    def connect(self) -> None:
        try:
            super().connect()
        except OSError as error:
            error.add_note(_UNCONNECTED)
            raise
        _OPEN[self.sock] = os.getpid()

    def _new_conn(self) -> socket.socket:
        failure: OSError | None = None
        addresses = look_up(self._dns_host.strip("[]"), self.port, self.timeout)
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = socket.socket(family, kind, protocol)
            try:
                left_s = self.timeout
                sock.settimeout(left_s and left_s / (len(addresses) - tried))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(self.timeout)  # for the TLS handshake
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure or socket.gaierror("no address")

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        # One TLS record at a time: Python gives each record the whole timeout anew.
        for start in range(0, len(data), _TLS_RECORD):
            self.sock.settimeout(self.timeout)
            super().send(data[start : start + _TLS_RECORD])

    def response_class(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        leashed: Any = _Reader(sock, self._ends_s)
        return http.client.HTTPResponse(leashed, *args, **kwargs)


class _LeashedTls(_Leashed, HTTPSConnection):
    pass


class _Reader(io.RawIOBase):
    """What ``http.client`` reads a response from: the socket, with the time left set before every single read."""

    def __init__(self, sock: socket.socket, ends_s: float | None) -> None:
        self._sock = sock
        self._ends_s = ends_s
        self._raw = sock.makefile("rb", buffering=0)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._ends_s is not None:
            self._sock.settimeout(_left_s(self._ends_s))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _shelf(_maxsize: int) -> SimpleQueue[Any]:
    """Where a pool keeps idle connections. urllib3's own queue has a lock: held at a fork, it is held for ever."""
    return SimpleQueue()


_lockless: Any = staticmethod(_shelf)


class _Aimed(HTTPConnectionPool):
    QueueCls = _lockless

    def __init__(self, *args: Any, target: Secret | None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._target = target

    def _new_conn(self) -> Any:
        connection: Any = super()._new_conn()
        connection.target = self._target
        return connection


class _Pool(_Aimed):
    ConnectionCls = _Leashed


class _TlsPool(_Aimed, HTTPSConnectionPool):
    ConnectionCls = _LeashedTls


def _left_s(ends_s: float) -> float:
    left_s = ends_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _tls(ca_text: str | None) -> ssl.SSLContext:
    """Verifies always; trusts the public certificates and the caller's. SSLKEYLOGFILE is not read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    if ca_text is not None:
        context.load_verify_locations(cadata=ca_text)
    return context


#: The first row that fits the innermost exception names the failure.
_REASONS: Final[tuple[tuple[tuple[type[BaseException], ...], str], ...]] = (
    ((ssl.SSLEOFError, ssl.SSLZeroReturnError), "reset"),
    ((ssl.SSLError,), "tls"),
    ((TimeoutError, urllib3.exceptions.TimeoutError), "deadline"),
    ((socket.gaierror,), "dns"),
    ((ConnectionRefusedError,), "refused"),
    ((ConnectionError,), "reset"),
    ((http.client.IncompleteRead,), "truncated"),
    ((requests.exceptions.InvalidURL, urllib3.exceptions.LocationValueError, http.client.InvalidURL), "bad_url"),
    ((http.client.HTTPException,), "bad_response"),
)
_NO_ROUTE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH})


def _is_unconnected(error: BaseException | None) -> bool:
    """Whether it failed before there was a connection on which anything could be written."""
    while error is not None:
        if isinstance(error, urllib3.exceptions.NewConnectionError) or _UNCONNECTED in getattr(error, "__notes__", ()):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reason(error: BaseException) -> str:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    if isinstance(error, OSError) and error.errno in _NO_ROUTE:
        return "unreachable"
    return next((reason for kinds, reason in _REASONS if isinstance(error, kinds)), "network")


def library_version() -> str:
    """flagkit's own."""
    try:
        return metadata.version("flagkit")
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
