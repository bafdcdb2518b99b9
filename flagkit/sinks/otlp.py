"""Events to an OpenTelemetry collector, as log records over OTLP/HTTP in protobuf (extra ``otel``).

Owns what a collector's answer means for a batch. The official exporter is not used: it retries by itself within a time
that is fixed when it is made, says no more than yes or no, takes a redirect or a portal's page for success and does not
read how many records were refused; a sink owes its caller a verdict by a deadline. ``Wire`` moves the bytes,
``otlp_records`` words the events.

Source: opentelemetry.io/docs/specs/otlp, OTLP/HTTP.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from flagkit.boundary import contained
from flagkit.clock import Clock, SystemClock
from flagkit.errors import ConfigError
from flagkit.events import Batch, Delivered, Rejected, Retry, Sent
from flagkit.http import NoReply, Reply, Wire, secret_headers
from flagkit.sinks.http import refused
from flagkit.sinks.otlp_records import attribute, losses, record_of

if TYPE_CHECKING:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

_PATH: Final = "/v1/logs"
_PROTOBUF: Final = "application/x-protobuf"
_MAX_ANSWER_BYTES: Final = 64 * 1024
_GZIP_WBITS: Final = 31
_CONFIRMING: Final = (200, 202, 204)
_UNENCODABLE: Final = "unencodable"
#: What the collector refused for good, when it says how many and not which.
_PARTIAL: Final = "refused_by_collector"


class Otlp:
    """Exposures as ``feature_flag.evaluation`` events and tracked events as ``flagkit.metric`` events.

        sinks.Otlp("https://otlp.example.com", headers={"api-key": "..."}, resource={"service.name": "shop"})

    Args:
        url: a collector's address without path, ``http://localhost:4318``, which is sent to ``/v1/logs``; or, with
            a path, the endpoint itself. https (http on loopback), no user name, query or fragment.
        headers: sent along, such as an API key; their values are secrets and never shown.
        resource: what the events are of, by OpenTelemetry's names, each a string, number or bool. ``service.name`` is
            ``unknown_service`` if not given.
        ca_file: PEM file of certificates trusted in addition to the public ones.
        allow_insecure_http: allow http beyond loopback, in the clear.
        clock: time, for tests.

    Raises: ConfigError naming the field; ModuleNotFoundError without the extra ``otel``.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        resource: Mapping[str, str | bool | int | float] | None = None,
        ca_file: str | None = None,
        allow_insecure_http: bool = False,
        clock: Clock | None = None,
    ) -> None:
        # Now and not in a thread: a process that forks in the middle of an import gives its child a lock for ever.
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
        from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
        from opentelemetry.proto.logs.v1.logs_pb2 import ResourceLogs, ScopeLogs
        from opentelemetry.proto.resource.v1.resource_pb2 import Resource

        self._messages = logs_service_pb2
        self._wire = Wire(url, _PATH, ca_file=ca_file, allow_insecure_http=allow_insecure_http)
        self._headers = secret_headers("headers", headers)
        self._clock = SystemClock() if clock is None else clock
        attributes = {"service.name": "unknown_service", **_checked_resource(resource)}
        told = [attribute(name, value) for name, value in attributes.items()]
        scope = ScopeLogs(scope=InstrumentationScope(name="flagkit"))
        self._envelope = ResourceLogs(resource=Resource(attributes=told), scope_logs=[scope])
        self.name = self._wire.url

    def __repr__(self) -> str:
        return f"sinks.Otlp({self.name!r})"

    def send(self, batch: Batch, *, deadline_s: float) -> Sent:
        """See ``Sink``. An event sent again has the same ``log.record.uid``: OTLP itself knows no batch twice."""
        ends_s = self._clock.monotonic_s() + deadline_s
        records = [record for event in batch.events if (record := record_of(event)) is not None]
        if not records:
            return Rejected(_UNENCODABLE)
        lost = {_UNENCODABLE: len(batch.events) - len(records)} if len(records) < len(batch.events) else {}
        if batch.dropped:
            records.append(losses(batch.dropped, batch.id, self._clock.wall_ms()))
        body = zlib.compress(self._request(records), 1, _GZIP_WBITS)
        headers = {name: secret.header() for name, secret in self._headers.items()}
        headers |= {"Content-Type": _PROTOBUF, "Content-Encoding": "gzip", "Accept": _PROTOBUF}
        left_s = max(0.0, ends_s - self._clock.monotonic_s())
        try:
            reply = self._wire.post(body, headers, deadline_s=left_s, max_bytes=_MAX_ANSWER_BYTES)
        except NoReply as error:
            return Retry(error.reason, lasting=error.lasting)
        if reply.status not in _CONFIRMING:
            return refused(reply)
        refusals = contained(self._refusals, reply, otherwise=None)
        if refusals is None:
            return Retry("not_an_ack")
        return Delivered(
            {**lost, _PARTIAL: min(refusals, len(batch.events) - sum(lost.values()))} if refusals else lost
        )

    def close(self) -> None:
        self._wire.close()

    def after_fork(self) -> None:
        self._wire.after_fork()

    def _request(self, records: list[LogRecord]) -> bytes:
        request = self._messages.ExportLogsServiceRequest(resource_logs=[self._envelope])
        request.resource_logs[0].scope_logs[0].log_records.extend(records)
        serialised: bytes = request.SerializeToString()
        return serialised

    def _refusals(self, reply: Reply) -> int | None:
        """How many records the collector refused for good; None when it is no collector that answers.

        Proxies and captive portals say 200 too. The message for "all is well" has no bytes, so that an empty body is a
        confirmation; some collectors say it in JSON. Raises: whatever a body that is neither makes parsers raise.
        """
        if not reply.body:
            return 0
        if reply.media_type == _PROTOBUF:
            answer = self._messages.ExportLogsServiceResponse.FromString(reply.body)
            return max(0, int(answer.partial_success.rejected_log_records))
        said = json.loads(reply.body) if reply.media_type == "application/json" else None
        if not isinstance(said, dict) or not said.keys() <= {"partialSuccess"}:
            return None
        return max(0, int((said.get("partialSuccess") or {}).get("rejectedLogRecords") or 0))


def _checked_resource(resource: Any) -> Mapping[str, Any]:
    expected = "a mapping of names to strings, numbers and bools"
    if resource is None:
        return {}
    if not isinstance(resource, Mapping):
        raise ConfigError("resource", resource, expected)
    for name, value in resource.items():
        fits = isinstance(name, str) and name and isinstance(value, (str, bool, int, float))
        if not fits or contained(attribute, name, value, otherwise=None) is None:
            raise ConfigError("resource", name, expected)
    return dict(resource)
