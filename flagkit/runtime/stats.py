"""What ``client.status`` says, as frozen values: the account of events, the links to source and sink, the whole.

Only shapes and their meaning; each part is filled in by whoever owns it, and the client puts them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from flagkit.errors import Problem
from flagkit.frozen import ReadOnly

State: TypeAlias = Literal["starting", "ok", "failing", "auth_failed", "rejected"]
Origin: TypeAlias = Literal["source", "disk"]
#: How it stands with what is kept on disk: ``failing``, when it is full, say, is tried again; ``off`` is too, and needs
#: somebody to do something about the directory. Either way everything goes on in memory.
Standing: TypeAlias = Literal["ok", "failing", "off"]
_WORSE: Final = ("ok", "failing", "off")


class Account(NamedTuple):
    """Where every event went, read at one instant.

    ``recorded + adopted == delivered + sum(lost.values()) + pending``, always.

    recorded: events ever handed over in this process.
    adopted: events that a process left on disk when it ended, and that this one took over.
    delivered: events the collector said it has.
    lost: reason -> events that will never arrive: ``overflow``, ``closed``, ``unencodable``, ``too_large``,
        ``spool_full``, ``expired``, ``damaged``, or a collector's reason.
    pending: events in memory and on disk, those on the way included.
    """

    recorded: int
    adopted: int
    delivered: int
    lost: Mapping[str, int]
    pending: int

    @property
    def balanced(self) -> bool:
        return self.recorded + self.adopted == self.delivered + sum(self.lost.values()) + self.pending


class LinkState(NamedTuple):
    """How it stands with one source or sink.

    state: ``starting`` (not tried yet), ``ok``, ``failing`` (tried again soon), ``auth_failed`` (401, 403: check the
        key) or ``rejected`` (retrying alone will not help: a wrong address, a refused document or batch).
    last_error: the latest failure in a few words, kept after recovery; None when there was none.
    attempts, failures: counts since the start; consecutive_failures: since the last success.
    last_success_s: on the client's monotonic clock, None when there was none.
    """

    name: str
    state: State
    last_error: str | None
    attempts: int
    failures: int
    consecutive_failures: int
    last_success_s: float | None


class UsageState(NamedTuple):
    """How it stands with the counts of calls: the link they go over, and the account of the calls counted.

    account: as of events. Calls of which nobody can know whether they were taken are lost as ``unconfirmed``.
    """

    link: LinkState
    account: Account


class RemoteState(NamedTuple):
    """How it stands with a backend that is asked about flags which cannot be decided in this process.

    link: to its server. asked: requests sent. answered: those of them that were. lost: reason -> questions that were
        never put, or not answered: ``overflow``, when too many wait, or what the request came to.
    waiting: questions that wait for an answer, or to be put. kept: those whose answers are in memory.
    """

    link: LinkState
    asked: int
    answered: int
    lost: Mapping[str, int]
    waiting: int
    kept: int


class Status(NamedTuple):
    """A client at one instant. Its mappings are read-only; it can be pickled, and compared.

    ready: definitions are loaded. version: theirs, as the document names it.
    age_s: seconds since the source last confirmed them, in an earlier run perhaps; None when it never did.
    origin: ``source``, or ``disk`` while they are the last good ones of an earlier run, which the source has not
        confirmed yet; None without definitions.
    source, sink: None when the client has none. stream: the source's own news of changes, None when it never has any;
        ``starting`` when it might, and has not offered them.
    account: None when nothing is recorded.
    problems: what is wrong in the definitions in use, and in the latest ones if they were refused.
    trips: flag -> what a guard has rolled back, and why.
    fleet: how it stands with the other processes of the service; None when each guards by itself. alerts: what people
        were told, and what is still to be: an ``AlertStatus``.
    guards: how every candidate stands with its guard: a ``GuardStatus`` each, once a gate of the flag has been used.
    variants: calls, failures and latency by flag and variant, as gates of this process have seen them: each a
        ``VariantMetrics``.
    errors: kind -> answers the client gave although something went wrong inside it.
    worker_faults: rounds of a background thread that ended in an unexpected exception; each is logged.
    disk: how it stands with what is kept on disk; None without ``Config.state_dir``.
    usage: the counts of calls; None unless the sink wants them.
    overrides: what became of signed overrides: ``accepted``, or the word for the refusal -> how often.
    remote: what the source's server is asked about; None unless the source was told to.
    shadows: what became of the shadow runs of each flag that has drawn any: each a ``ShadowStatus``.
    holds: flag -> which rules a guard holds at an earlier step of their ramp, at what percentage, and why.
    """

    ready: bool
    version: str | None
    age_s: float | None
    origin: Origin | None
    source: LinkState | None
    stream: LinkState | None
    sink: LinkState | None
    account: Account | None
    problems: tuple[Problem, ...]
    trips: Mapping[str, str]
    fleet: LinkState | None
    alerts: Any
    guards: tuple[Any, ...]
    variants: tuple[Any, ...]
    errors: Mapping[str, int]
    worker_faults: int
    disk: Standing | None
    usage: UsageState | None = None
    overrides: Mapping[str, int] = ReadOnly()
    remote: RemoteState | None = None
    shadows: tuple[Any, ...] = ()
    holds: Mapping[str, str] = {}


def worst(*standings: Standing | None) -> Standing | None:
    """The one to worry about; None when nothing is kept on disk."""
    return max((standing for standing in standings if standing is not None), key=_WORSE.index, default=None)
