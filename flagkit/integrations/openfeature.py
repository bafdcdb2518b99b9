"""flagkit as a provider of the OpenFeature Python SDK (extra ``openfeature``).

Owns the translation between the two and no decision: contexts, types, reasons and error codes, events, tracking. The
client decides in this process, so that the SDK's asynchronous calls need no code of their own. Hooks are run by the
SDK.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderFatalError, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata
from openfeature.track import TrackingEventDetails

from flagkit.boundary import contained
from flagkit.client import Client
from flagkit.context import Context, as_context
from flagkit.decision import Decision
from flagkit.errors import ConfigError
from flagkit.runtime.handlers import Event, EventDetails

T = TypeVar("T")

_NONE: Final = object()
_EVENTS: Final[tuple[Event, ...]] = ("ready", "stale", "error", "configuration_changed")
_SENTENCES: Final = {
    "PROVIDER_NOT_READY": "no definitions have been loaded yet",
    "FLAG_NOT_FOUND": "the definitions have no flag of that key",
    "PARSE_ERROR": "the flag's definition has mistakes and there is no good version of it",
    "INVALID_CONTEXT": "the targeting key cannot be a unit: expected a string of 1 to 1,024 bytes of UTF-8",
    "GENERAL": "the flag could not be decided for this context",
}


class FlagkitProvider(AbstractProvider):
    """Answers OpenFeature's questions from a flagkit client.

        api.set_provider_and_wait(FlagkitProvider(client))
        api.get_client().get_boolean_value("new-checkout", False, EvaluationContext("user-1"))

    Args:
        client: who decides, records and sends.
        owns_client: close it when the SDK shuts the provider down. By default whoever made it does.
        ready_timeout_s: how long ``initialize`` waits for definitions, seconds, 0 and up.

    Raises: ConfigError naming the argument. Answers raise nothing: the caller's default comes with an error code.

    A targeting key is the unit; attributes are the context's, a ``datetime`` as RFC 3339; ``enrolments`` and
    ``synthetic`` among them mean what they mean in flagkit. A context with nothing in it is the ambient one. An
    exposure is recorded when a value is served, as by ``client.value``. One instance is for one SDK: its domains may
    share it. A client that is stale at the very moment of ``set_provider`` counts as ready until it next changes.
    """

    def __init__(self, client: Client, *, owns_client: bool = False, ready_timeout_s: float = 10.0) -> None:
        super().__init__()
        if not isinstance(client, Client):
            raise ConfigError("client", client, "a flagkit.Client")
        is_number = isinstance(ready_timeout_s, (int, float)) and not isinstance(ready_timeout_s, bool)
        if not is_number or not ready_timeout_s >= 0:  # nan is neither less nor more
            raise ConfigError("ready_timeout_s", ready_timeout_s, "a number of seconds from 0")
        self._client = client
        self._owns_client = owns_client
        self._ready_timeout_s = ready_timeout_s
        self._turn = threading.Lock()
        self._standing: str | None = None  # the last event that the SDK knows of, but for changed definitions

    def get_metadata(self) -> Metadata:
        return Metadata(name="flagkit")

    # -- life --------------------------------------------------------------------------------------------------------

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002 - of no use to a server
        """Start the client and wait for definitions.

        Raises: ProviderFatalError when the source refuses the key, ProviderNotReadyError when there are none for
            another reason. The client goes on trying, and PROVIDER_READY follows when it succeeds.
        """
        ready = self._client.wait_ready(self._ready_timeout_s)
        with self._turn:
            self._standing = "ready" if ready else "error"  # the SDK tells of this itself
        for event in _EVENTS:
            self._client.remove_handler(event, self._happened)
            self._client.add_handler(event, self._happened)
        if not ready:
            link = self._client.status.source
            reason = link.last_error if link is not None and link.last_error else "nothing has answered yet"
            refused = link is not None and link.state == "auth_failed"
            raise (ProviderFatalError if refused else ProviderNotReadyError)(f"no definitions: {reason}")

    def shutdown(self) -> None:
        """Tell the SDK nothing more; close the client if it is the provider's own. Raises: nothing."""
        for event in _EVENTS:
            self._client.remove_handler(event, self._happened)
        if self._owns_client:
            self._client.close()

    def _happened(self, details: EventDetails) -> None:
        """Pass one of the client's events on. Called by one thread."""
        if details.event == "configuration_changed":
            self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=sorted(details.flags_changed)))
            return
        with self._turn:
            known, self._standing = self._standing, details.event
        if known == details.event:
            return
        if details.event == "ready":
            self.emit_provider_ready(ProviderEventDetails())
        elif details.event == "stale":
            self.emit_provider_stale(ProviderEventDetails(message="the source has not confirmed the definitions"))
        else:
            # Not fatal: with that word the SDK would stop asking, and the last good definitions still answer.
            self.emit_provider_error(ProviderEventDetails(message=details.message, error_code=ErrorCode.GENERAL))

    # -- answers -----------------------------------------------------------------------------------------------------

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        return self._resolve(flag_key, default_value, evaluation_context, bool)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        return self._resolve(flag_key, default_value, evaluation_context, str)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        return self._resolve(flag_key, default_value, evaluation_context, int)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        return self._resolve(flag_key, default_value, evaluation_context, float)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        return self._resolve(flag_key, default_value, evaluation_context, dict, list)

    def _resolve(
        self, flag_key: str, default: T, given: EvaluationContext | None, *kinds: type
    ) -> FlagResolutionDetails[T]:
        context = _context(given)
        decision = self._client.peek(flag_key, context)
        if decision.error_code is not None:
            return _failed(default, ErrorCode(decision.error_code.value), _SENTENCES.get(decision.error_code.value))
        metadata = _metadata(decision)
        if decision.variant is None:  # the backend leaves it to the caller
            return FlagResolutionDetails(default, reason=_reason(decision), flag_metadata=metadata)
        value = _fitted(decision.value, kinds)
        if value is _NONE:
            expected = " or ".join(kind.__name__ for kind in kinds)
            found = type(decision.value).__name__
            return _failed(default, ErrorCode.TYPE_MISMATCH, f"the value is of type {found}; expected {expected}")
        self._client.expose(decision, context)
        return FlagResolutionDetails(value, reason=_reason(decision), variant=decision.variant, flag_metadata=metadata)

    # -- tracking ----------------------------------------------------------------------------------------------------

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        """Record a metric event for the targeting key, as ``client.track`` does. Raises: nothing."""
        properties: dict[str, Any] = {}
        value = None
        if tracking_event_details is not None:
            properties = dict(tracking_event_details.attributes)
            value = tracking_event_details.value
            named_so = properties.pop("value", None)  # an attribute of that name is the value, if there is no other
            value = named_so if value is None else value
        self._client.track(tracking_event_name, _context(evaluation_context), value=value, **properties)


def _context(given: EvaluationContext | None) -> Context | None:
    """The context as flagkit's; None, which is the ambient one, when it says nothing."""
    invalid: Context | None = Context(None)
    return None if given is None else contained(_said, given, otherwise=invalid)


def _said(given: EvaluationContext) -> Context | None:
    if given.targeting_key is None and not given.attributes:
        return None
    entries: dict[str, Any] = {
        name: contained(_rfc3339, value, otherwise=None) if isinstance(value, datetime) else value
        for name, value in given.attributes.items()
    }
    entries.pop("unit", None)  # OpenFeature has a name of its own for it, and "metric" is no unit
    if given.targeting_key is not None:
        entries["unit"] = given.targeting_key
    return as_context(entries)


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _fitted(value: Any, kinds: tuple[type, ...]) -> Any:
    """``value`` if its JSON type is one of ``kinds`` (an int will do for a float), else ``_NONE``."""
    if type(value) in kinds:
        return value
    if type(value) is int and float in kinds:
        return contained(float, value, otherwise=_NONE)  # unless it is beyond any
    return _NONE


def _reason(decision: Decision) -> Reason:
    return Reason(decision.reason.standard.value)


def _metadata(decision: Decision) -> dict[str, bool | int | float | str]:
    """``version``, ``rule``, and flagkit's own word for the ``reason`` where OpenFeature has none."""
    metadata: dict[str, bool | int | float | str] = {}
    if decision.version is not None:
        metadata["version"] = decision.version
    if decision.rule is not None:
        metadata["rule"] = decision.rule
    if decision.reason.standard is not decision.reason:
        metadata["reason"] = decision.reason.value
    return metadata


def _failed(default: T, code: ErrorCode, message: str | None) -> FlagResolutionDetails[T]:
    return FlagResolutionDetails(default, error_code=code, error_message=message, reason=Reason.ERROR)
