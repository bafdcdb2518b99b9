"""``Wire``: GET and POST to one address, within a deadline and a size.

Owns what is decided before and after an exchange: the address, the key, which headers go out, which redirects are
followed, when a connection is too old to be trusted. How bytes move is the leash's business, what they mean the
caller's. Sources and sinks hold one each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from flagkit.errors import ConfigError
from flagkit.http.address import endpoint, hidden_endpoint, redirected
from flagkit.http.reply import NoReply, Reply, fits_header
from flagkit.http.secret import Secret

if TYPE_CHECKING:
    from flagkit.http.leash import Flow, Leash

_IDLE_S: Final = 30.0
_MAX_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_SUCCESS: Final = range(200, 300)


class Wire:
    """One address and the connections to it. One exchange at a time; any thread.

    Args:
        url: https URL (http on loopback) without user name, query and fragment.
        path: what is asked for when ``url`` has no path.
        key: sent as ``Authorization: Bearer``, to this scheme, host and port only.
        scheme: what stands before the key instead of ``Bearer``, with its space.
        headers: gives what is sent with every request, to this scheme, host and port only; asked at each.
        query: what is asked for behind the address and a question mark; neither a log nor an error of flagkit's or
            urllib3's shows it, and no redirect is then followed.
        field: what the caller calls ``url``.
        ca_file: PEM file with certificates trusted in addition to the public ones. Nothing turns verification off.
        allow_insecure_http: speak http beyond loopback.
        now_s: seconds for the age of connections; the default also counts the time a machine was suspended.

    Raises: ConfigError naming the field.
    """

    __slots__ = (
        *("_ca_text", "_extra", "_key", "_leash", "_listening", "_now_s", "_query", "_scheme", "_target", "_used_s"),
        "url",
    )

    def __init__(
        self,
        url: str,
        path: str,
        *,
        key: str | Secret | None = None,
        scheme: str = "Bearer ",
        headers: Callable[[], Mapping[str, str | Secret]] | None = None,
        query: str | None = None,
        field: str = "url",
        ca_file: str | None = None,
        allow_insecure_http: bool = False,
        now_s: Callable[[], float] | None = None,
    ) -> None:
        self.url = endpoint(url, path, field=field, allow_insecure_http=allow_insecure_http)
        self._key = key if key is None or isinstance(key, Secret) else Secret(key)
        self._scheme = scheme
        self._extra = headers
        self._ca_text = None if ca_file is None else _read_ca(ca_file)
        self._now_s = _awake_s if now_s is None else now_s
        self._query = None if query is None else Secret(query, "query")
        self._target: Secret | None = None
        self._leash: Leash | None = None
        self._listening: Leash | None = None
        self._used_s = 0.0
        # The HTTP library, 0.1 to 0.6 s once, and now: a process that forks while another thread is inside that import
        # gives its child an import lock that nobody will release, and threads that exchange start after this.
        import flagkit.http.leash  # noqa: F401

    @classmethod
    def hidden(cls, url: str, field: str, *, ca_file: str | None = None, allow_insecure_http: bool = False) -> Wire:
        """A wire to a URL that is a secret as a whole, for ``post``: neither it nor urllib3's logs show its path.

        Raises: ConfigError, naming ``field`` for the URL.
        """
        shown, target = hidden_endpoint(url, field, allow_insecure_http=allow_insecure_http)
        wire = cls(shown, "/", ca_file=ca_file, allow_insecure_http=allow_insecure_http)
        wire._target = target
        return wire

    @property
    def identity(self) -> str:
        """What tells this address and key from others: the URL, with digests of what of them is not shown."""
        secrets = (secret for secret in (self._target, self._query, self._key) if secret is not None)
        return self.url + "".join(f"#{secret.digest}" for secret in secrets)

    def get(self, *, etag: str | None = None, deadline_s: float, max_bytes: int) -> Reply:
        """The answer to a GET, conditional when ``etag`` is given; same-origin redirects are followed, at most 3.

        Raises: NoReply.
        """
        ends_s = time.monotonic() + deadline_s
        headers = {} if etag is None else {"If-None-Match": etag}
        url = self.url
        for _ in range(_MAX_REDIRECTS + 1):
            reply = self._exchange("GET", url, headers, None, ends_s, max_bytes)
            if reply.status not in _REDIRECTS:
                return reply
            target = redirected(url, reply.location) if self._query is None else None
            if target is None:
                break
            url = target
        raise NoReply("redirect", self.url)

    def post(
        self,
        body: bytes,
        headers: Mapping[str, str],
        *,
        deadline_s: float,
        max_bytes: int,
        readable: range = _SUCCESS,
    ) -> Reply:
        """The answer to a POST, a redirect included: it is never followed, because a body went out.

        readable: the statuses whose body is read; of others nobody waits for it.
        Raises: NoReply.
        """
        return self._exchange("POST", self.url, headers, body, time.monotonic() + deadline_s, max_bytes, readable)

    def beside(self, location: str | None) -> str | None:
        """The address that ``location`` means, seen from this one; None unless scheme, host and port are the same."""
        return redirected(self.url, location)

    def listen(self, url: str, *, last_id: str | None, deadline_s: float) -> tuple[Reply, Flow | None]:
        """The answer to a GET for server-sent events at an address ``beside`` this one, on a connection of its own.

        With status 200 the events follow; whoever asked closes them. A redirect is not followed. Raises: NoReply.
        """
        from flagkit.http.leash import Leash

        leash = self._listening = Leash(url, self._ca_text)
        headers = {"Last-Event-ID": last_id} if last_id is not None and fits_header(last_id) else {}
        sent = self._headers(leash, {"Accept": "text/event-stream", "Accept-Encoding": "identity", **headers})
        flow = None
        try:
            reply, flow = leash.open(url, sent, ends_s=time.monotonic() + deadline_s)
            return reply, flow
        finally:
            if flow is None:
                leash.close()

    def close(self) -> None:
        """Let go of the connections. A later exchange opens new ones."""
        leash, self._leash = self._leash, None
        if leash is not None:
            leash.close()

    def after_fork(self) -> None:
        """In a forked child: forget the parent's connections without a word on them. Takes no lock."""
        leash, self._leash = self._leash or self._listening, None
        if leash is not None:
            leash.abandon()

    def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        ends_s: float,
        max_bytes: int,
        readable: range = _SUCCESS,
    ) -> Reply:
        now_s = self._now_s()
        if now_s - self._used_s > _IDLE_S:
            self.close()  # a firewall may have forgotten the connection without telling anyone
        leash = self._leash
        if leash is None:
            from flagkit.http.leash import Leash  # see the package: this loads requests

            leash = self._leash = Leash(self.url, self._ca_text, self._target, query=self._query)
        sent = self._headers(leash, {"Accept": "application/json", "Accept-Encoding": "gzip", **headers})
        try:
            return leash.exchange(method, url, sent, body, ends_s=ends_s, max_bytes=max_bytes, readable=readable)
        except Exception as error:
            if not isinstance(error, NoReply):
                self.close()  # nobody expected it: begin anew, as TLS must when gevent has patched it meanwhile
            raise
        finally:
            self._used_s = self._now_s()

    def _headers(self, leash: Leash, headers: Mapping[str, str]) -> dict[str, str]:
        sent = {"User-Agent": leash.user_agent, **headers}
        if self._extra is not None:
            sent |= {name: each.header() if isinstance(each, Secret) else each for name, each in self._extra().items()}
        if self._key is not None:
            sent["Authorization"] = self._key.header(self._scheme)
        return sent


def _awake_s() -> float:
    """Seconds since boot, sleep included: what a suspended machine's peers have lived through."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def _read_ca(ca_file: object) -> str:
    """The certificates as text, read once so that a mistake shows at construction and a later edit breaks nothing."""
    expected = "the path of a PEM file with at least one certificate"
    if not isinstance(ca_file, str):
        raise ConfigError("ca_file", ca_file, expected)
    import ssl  # only those who pass a file pay for it

    try:
        with open(ca_file, encoding="ascii") as file:
            text = file.read()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (OSError, ValueError):
        raise ConfigError("ca_file", ca_file, expected) from None
    return text
