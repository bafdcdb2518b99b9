"""The default client: configure it once, then use flags from anywhere, before or after.

The functions look the client up when they are called, so decorators and constants may be written at import. Until
``configure`` has been called every answer is the caller's default (reason ERROR, PROVIDER_NOT_READY), and nothing is
recorded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from flagkit.arguments import UNSET
from flagkit.client import Client
from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.core.policy import GuardPolicy
from flagkit.decision import Decision
from flagkit.errors import FetchError
from flagkit.flags import Flag
from flagkit.production.gate import Gate
from flagkit.production.passage import Chosen, GateOptions, Ignored
from flagkit.production.shadow_policy import ShadowPolicy
from flagkit.sinks import Sink, UsageSink
from flagkit.sources import Fetched, NotModified, Source, Static

if TYPE_CHECKING:
    from flagkit.fleets import Fleet
    from flagkit.production.alerts import Messenger
    from flagkit.production.shadow import Shadow
    from flagkit.production.shadow_desk import ShadowDesk

T = TypeVar("T")

_client: Client | None = None
_configuring = threading.Lock()
#: Policies of gates made here, for whatever client is configured.
_policies: dict[str, GuardPolicy] = {}
#: Told of each client that is configured, before it starts.
_borrower: Callable[[Client], object] | None = None


class _Nowhere(Static):
    """The source of a client that nobody configured."""

    name = "not configured"

    def __init__(self) -> None:
        super().__init__({})

    def fetch(self, validator: str | None, *, deadline_s: float, max_bytes: int) -> Fetched | NotModified:  # noqa: ARG002
        raise FetchError("not_configured", "flagkit.configure(...) has not been called")


def configure(
    url: str | None = None,
    *,
    key: str | None = None,
    source: Source | None = None,
    sink: Sink | UsageSink | None = UNSET,
    config: Config | None = None,
    clock: Clock | None = None,
    fleet: Fleet | None = UNSET,
    webhook: Messenger | None = UNSET,
) -> Client:
    """Make and start the default client; arguments as for ``Client``. One that was there before is closed.

    Raises: ConfigError naming the argument; the client before then stays.
    """
    global _client
    new = Client(url, key=key, source=source, sink=sink, config=config, clock=clock, fleet=fleet, webhook=webhook)
    for flag, policy in _policies.items():
        new._guards.adopt(flag, policy)
    if _borrower is not None:
        _borrower(new)
    with _configuring:
        before, _client = _client, new
    if before is not None:
        before.close()
    new.start()
    return new


def _default() -> Client:
    global _client
    client = _client
    if client is None:
        client = _client = Client(source=_Nowhere(), sink=None)
    return client


def current() -> Client:
    """The default client of the moment, for integrations that were given none."""
    return _default()


def enabled(flag: str, context: object = None, *, default: bool = UNSET) -> bool:
    """``Client.enabled`` on the default client."""
    return _default().enabled(flag, context, default=default)


def variant(flag: str, context: object = None, *, default: str | None = None) -> str | None:
    """``Client.variant`` on the default client."""
    return _default().variant(flag, context, default=default)


@overload
def value(flag: Flag[T], context: object = None) -> T: ...
@overload
def value(flag: str, context: object = None, *, default: T) -> T: ...
def value(flag: str, context: object = None, *, default: Any = UNSET) -> Any:
    """``Client.value`` on the default client."""
    return _default().value(flag, context, default=default)


def decide(flag: str, context: object = None) -> Decision:
    """``Client.decide`` on the default client."""
    return _default().decide(flag, context)


class _AtTheCall:
    """Chooses by the client that is the default one when the call comes."""

    def choose(self, flag: str, context: object) -> Chosen:
        return _default().choose(flag, context)

    def sample(self, flag: str, context: object, policy: ShadowPolicy, failure: str | None = None) -> ShadowDesk | None:
        return _default().sample(flag, context, policy, failure)


def gate(
    flag: str,
    context: object = None,
    *,
    otherwise: Callable[..., Any] | None = None,
    variants: Mapping[str, Callable[..., Any]] | None = None,
    unit_from: str | None = None,
    failed: Callable[[Any], bool] | None = None,
    ignore: Ignored = (),
    fallback_on_error: bool = False,
    guard: GuardPolicy | None = None,
) -> Gate:
    """``Client.gate`` on the default client. A decorated function goes by the one that there is when it is called."""
    if guard is not None:
        _policies[flag] = guard
        _default()._guards.adopt(flag, guard)
    options = GateOptions(otherwise, variants or {}, unit_from, failed, ignore, fallback_on_error)
    return Gate(_AtTheCall(), flag, context, options)


def feedback(flag: str, *, score: float | None = None, text: str | None = None, context: object = None) -> None:
    """``Client.feedback`` on the default client."""
    _default().feedback(flag, score=score, text=text, context=context)


def shadow(
    flag: str,
    candidate: Callable[..., Any],
    *,
    policy: ShadowPolicy | None = None,
    context: object = None,
    unit_from: str | None = None,
) -> Shadow:
    """``Client.shadow`` on the default client: the one that there is when the control is called."""
    import flagkit.shadowing  # noqa: F401 - as in ``Client.shadow``
    from flagkit.production.shadow import Shadow

    return Shadow(_AtTheCall(), flag, candidate, policy, context, unit_from)


def track(event: str, context: object = None, /, *, value: float | None = None, **properties: Any) -> None:
    """``Client.track`` on the default client."""
    _default().track(event, context, value=value, **properties)


@contextmanager
def lent(borrower: Callable[[Client], object]) -> Iterator[None]:
    """For tests: hand over the default client, and each that is configured in the block; then it is what it was."""
    global _client, _borrower
    before = _client, _borrower
    try:
        if _client is None:  # not the one that complains of having no source
            _client = Client(source=Static({"schema": 1, "flags": {}}), sink=None, fleet=None, webhook=None)
        borrower(_client)
        _borrower = borrower
        yield
    finally:
        with _configuring:
            _client, _borrower = before
