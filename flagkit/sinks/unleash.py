"""Counts of calls to an Unleash server, which shows by them what features are used and how.

Owns which answers mean that the server has them. Unleash adds up whatever it is sent and knows no report twice. So what
certainly never reached it is offered again; what it answered 2xx is delivered; and where a request went out and no
answer came that says what became of it, the counts are lost as ``unconfirmed``: the server's totals may lack them or
not, and are never too high.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from flagkit.errors import ConfigError
from flagkit.events import Delivered, Rejected, Retry, Usage
from flagkit.http import NoReply, Reply
from flagkit.sinks.sink import Sink
from flagkit.unleash_wire import UnleashServer, interval_header

_MAX_ANSWER: Final = 64 * 1024
_MAX_WAIT_S: Final = 3600.0
_LONGEST_INTERVAL_S: Final = 3600.0
#: Answers that say that nothing was taken, and that the same may be offered again.
_UNTAKEN: Final = frozenset({401, 403, 404, 408, 425, 429, 503})
_UNCONFIRMED: Final = "unconfirmed"


class Unleash:
    """How often each feature was asked for, with which answer. Unleash takes nothing else.

        sink = sinks.Unleash("https://unleash.example.com/api", token="...", app_name="shop")

    Args:
        url, token, app_name, instance_id, custom_headers, ca_file, allow_insecure_http: as of ``sources.Unleash``.
        events: where exposures and metric events go, any other sink; None: nowhere.
        interval_s: how often counts are sent, 1 to 3,600 seconds.

    Raises: ConfigError naming the field.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str,
        app_name: str = "flagkit",
        instance_id: str | None = None,
        custom_headers: Mapping[str, str] | None = None,
        events: Sink | None = None,
        interval_s: float = 60.0,
        ca_file: str | None = None,
        allow_insecure_http: bool = False,
    ) -> None:
        if events is not None and (isinstance(events, type) or not isinstance(events, Sink)):
            raise ConfigError("events", events, "a sink that takes events, such as flagkit.sinks.Log(), or None")
        whole = isinstance(interval_s, (int, float)) and not isinstance(interval_s, bool)
        if not whole or not 1 <= interval_s <= _LONGEST_INTERVAL_S:
            raise ConfigError("interval_s", interval_s, "seconds from 1 to 3,600")
        self._server = UnleashServer(
            url,
            token=token,
            app_name=app_name,
            instance_id=instance_id,
            custom_headers=custom_headers,
            ca_file=ca_file,
            allow_insecure_http=allow_insecure_http,
        )
        self.events = events
        self.usage_interval_s = float(interval_s)
        self._wire = self._server.wire("/client/metrics")
        self.name = self._wire.url

    def __repr__(self) -> str:
        return f"sinks.Unleash({self._server.url!r})"

    def report(self, usage: Usage, *, deadline_s: float) -> Delivered | Retry | Rejected:
        """See ``UsageSink``."""
        toggles = {
            flag: {"yes": counted.yes, "no": counted.no, "variants": dict(counted.variants)}
            for flag, counted in usage.flags.items()
        }
        bucket = {"start": _moment(usage.start_ms), "stop": _moment(usage.stop_ms), "toggles": toggles}
        headers = {"Content-Type": "application/json", **interval_header(self.usage_interval_s)}
        try:
            body = json.dumps({**self._server.described(), "bucket": bucket}).encode()
        except (TypeError, ValueError):
            return Rejected("unencodable")
        self._wire.close()  # on a connection that was idle nobody could say whether a request was taken
        try:
            reply = self._wire.post(body, headers, deadline_s=deadline_s, max_bytes=_MAX_ANSWER, readable=range(0))
        except NoReply as error:
            return Rejected(_UNCONFIRMED) if error.written else Retry(error.reason, lasting=error.lasting)
        return _meant(reply)

    def close(self) -> None:
        self._wire.close()

    def after_fork(self) -> None:
        """See ``UsageSink``."""
        self._wire.after_fork()


def _meant(reply: Reply) -> Delivered | Retry | Rejected:
    status = reply.status
    if 200 <= status < 300:
        return Delivered()
    if status in _UNTAKEN:
        after_s = min(reply.retry_after_s or 0.0, _MAX_WAIT_S)
        return Retry(f"http_{status}", after_s, lasting=status in (401, 403, 404))
    return Rejected(f"http_{status}" if 400 <= status < 500 else _UNCONFIRMED)


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
