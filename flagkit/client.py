"""``Client``: the composition root and the public verbs. No algorithm lives here.

A verb resolves the context, asks the snapshot, and records what was met. Nothing on that way locks, waits, does I/O or
raises. Threads start with ``start`` or the first question, and again in a forked child.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, overload
from warnings import warn

from flagkit.ambient import Ambient
from flagkit.arguments import UNSET, checked_clock, checked_config, checked_ends, usable_s
from flagkit.boundary import contained
from flagkit.clock import Clock
from flagkit.config import Config
from flagkit.context import (
    ANONYMOUS,
    Context,
    Scope,
    as_context,
    current_scope,
    entered,
    granting,
    in_shadow,
    overriding,
)
from flagkit.core.explain import Explanation, explain
from flagkit.core.logic import FORCES_NOTHING, Decide, Forced
from flagkit.core.policy import GuardPolicy
from flagkit.core.snapshot import Snapshot
from flagkit.decision import Decision, ErrorCode, Reason
from flagkit.errors import ConfigError
from flagkit.flags import Flag
from flagkit.frozen import ReadOnly
from flagkit.log import logger
from flagkit.production.branch import BORROWED, UNCOUNTED
from flagkit.production.gate import Gate
from flagkit.production.passage import Chosen, GateOptions, Ignored
from flagkit.production.shadow_policy import ShadowPolicy
from flagkit.runtime.handlers import Event, EventDetails, Handler
from flagkit.runtime.process import process
from flagkit.runtime.stats import Status, worst
from flagkit.sinks import Sink, UsageSink
from flagkit.sources import File, Source

if TYPE_CHECKING:
    from flagkit.fleets import Fleet
    from flagkit.invocation import Invocation
    from flagkit.production.alerts import Messenger
    from flagkit.production.overrides import SignedOverrides
    from flagkit.production.shadow import Shadow
    from flagkit.production.shadow_desk import ShadowDesk
    from flagkit.production.told import Told
    from flagkit.runtime.usage import Reporting
    from flagkit.shadowing import Shadowing

T = TypeVar("T")


#: Answers that a pinned one gives way to: nobody waits for the end of a request to be safe.
_ENDS_PIN: Final = (Reason.DISABLED, Reason.GUARD, Reason.PREREQUISITE_FAILED)


#: Who asks when the application's own function could not say it.
_NOBODY: Final = Context(None)


#: The longest that a close waits for the guards' thread, seconds.
_GUARDS_S: Final = 1.0


#: What is waited for where the caller does not say how long, or says what is no time: seconds, and those of a call.
_WAIT_S: Final = 5.0
_CALL_S: Final = 1.0


class _Answers(Protocol):
    """What the verbs ask: a snapshot, or what stands in for it until the threads run."""

    compiled: dict[str, Decide]

    def decide(self, flag: str, context: Context, forced: Forced = None) -> Decision: ...


class _Asleep:
    """Stands in for the snapshot before the first question in a process, so that no later one has to look."""

    __slots__ = ("_client", "compiled")

    def __init__(self, client: Client) -> None:
        self._client = client
        self.compiled: dict[str, Decide] = {}

    def decide(self, flag: str, context: Context, forced: Forced = None) -> Decision:
        return self._client._awake().decide(flag, context, forced)


class Client:
    """Flags for one application, decided in this process.

        client = flagkit.Client("https://flags.example.com", key="...")
        if client.enabled("new-checkout", user_id): ...

    Args:
        url: of a flagkit service: source and sink at once. Give this or ``source``.
        key: the service's key, for both.
        source: where definitions come from (``flagkit.sources``).
        sink: where events go (``flagkit.sinks``); None records and counts nothing. Not given: the service at ``url``,
            and without one none.
        config: settings; ``Config()`` if not given.
        clock: time, for tests.
        fleet: where the processes of the service count together for guards (``flagkit.fleets``); None: each by itself.
            Not given: the service at ``url``, and without one none.
        webhook: where alerts go (``flagkit.sinks.Webhook``); None: nowhere but to the log and to handlers. Not given:
            the one whose URL is in the environment's FLAGKIT_WEBHOOK_URL, if any.

    Raises: ConfigError naming the argument. Nothing else, then or later: what goes wrong is in ``status``.
    Making a client starts nothing and waits for nothing; local definitions are read at once, so that the first answer
    is right. All methods may be called from any thread, in coroutines, and in forked children. One that is forgotten
    without ``close`` delivers what it has recorded, and issues a ResourceWarning.
    """

    _closed = True  # until it is whole

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        source: Source | None = None,
        sink: Sink | UsageSink | None = UNSET,
        config: Config | None = None,
        clock: Clock | None = None,
        fleet: Fleet | None = UNSET,
        webhook: Messenger | None = UNSET,
    ) -> None:
        # Not at import: many a program imports this and never makes a client.
        from flagkit.alerting import Alerting
        from flagkit.guarding import Guarding
        from flagkit.runtime.feed import Feed
        from flagkit.runtime.recording import Recording

        self._config = checked_config(config)
        self._clock = checked_clock(clock)
        ends = checked_ends(url, key, source, sink, fleet, webhook)
        self._errors: dict[str, int] = {}
        self._overrides: SignedOverrides | None = None
        self._answers: _Answers = _Asleep(self)
        self._guarding = Guarding(self._config, self._clock, ends.fleet, self._tripped, self._slumber)
        self._guards = self._guarding.guards
        #: Records an exposure, once the client is awake.
        self._record: Callable[[Decision, bytes], None] = _nowhere
        self._feed = Feed(
            ends.source,
            self._config,
            self._clock,
            changed=self._changed,
            ended=self._slumber,
            observe=ends.sink is not None,
            taken_back=self._guarding.taken_back,
            stands=self._stands,
        )
        self._alerting = Alerting(ends.webhook, self._clock, self._feed.handlers.emit, self._labels)
        self._guarding.use(self._feed.current.retrip, self._feed.snapshot.now_ms)
        self._recording = (
            Recording(
                ends.sink, self._config, self._clock, self._feed.environment, self._slumber, self._guards.summaries
            )
            if ends.sink is not None
            else None
        )
        self._shadowing: Shadowing | None = None
        self._reporting: Reporting | None = None
        if ends.usage is not None:
            from flagkit.counting import count_calls
            from flagkit.runtime.usage import Reporting

            self._reporting = Reporting(ends.usage, self._config, self._clock, self._slumber)
            count_calls(self, self._reporting.counts.count)
        self._closed = False

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], *, sink: Sink | None = None, config: Config | None = None
    ) -> Client:
        """A client whose definitions are a local file, re-read when it changes.

        Raises: ConfigError when there is no such file. A file that cannot be used is said in ``status.problems``.
        """
        source = File(path)
        if not os.path.isfile(path):
            raise ConfigError("path", os.fspath(path), "the path of a definitions file that exists")
        return cls(source=source, sink=sink, config=config)

    # -- questions ---------------------------------------------------------------------------------------------------

    # The one verb written for speed. `default` is not keyword-only because CPython specialises no such calls, and the
    # compiled flag is called straight; both together are a third of its price.
    def enabled(self, flag: str, context: object = None, default: bool = UNSET) -> bool:
        """Whether the flag serves anything but its off variant; records the exposure.

        Args: context, a ``Context``, a unit, a mapping with ``unit``, or None for the ambient one. default, the answer
            when there is none (False, or a declared flag's own).
        Raises: nothing. Cost: a dictionary lookup and at most one hash a rule; no lock, no I/O.
        """
        kind = type(context)
        asker: Any = context if kind is Context or kind is dict else self._resolve(context)
        answers = self._answers
        scope = current_scope()
        try:
            decision = (
                answers.compiled[flag](asker, None, answers) if scope is None else self._decide_in(scope, flag, asker)
            )
        except Exception:  # noqa: BLE001 - the short way failed: a first question, or a context that is not simple
            decision = answers.decide(flag, asker := as_context(asker))
        exposed = decision._exposed
        if exposed is not None:
            if kind is dict:
                asker = as_context(asker)
            key = asker._key
            if key and key not in exposed and not asker.synthetic:
                self._record(decision, key)
        if decision.variant is not None:
            return decision.enabled
        if default is UNSET:
            default = isinstance(flag, Flag) and flag.default is True
        return self._otherwise(decision, default)

    def variant(self, flag: str, context: object = None, *, default: str | None = None) -> str | None:
        """The name of the variant served, or ``default``; records the exposure. Raises: nothing."""
        decision = self.decide(flag, context)
        return decision.variant if decision.variant is not None else self._otherwise(decision, default)

    @overload
    def value(self, flag: Flag[T], context: object = None) -> T: ...
    @overload
    def value(self, flag: str, context: object = None, *, default: T) -> T: ...
    def value(self, flag: str, context: object = None, *, default: Any = UNSET) -> Any:
        """The value of the variant served; records the exposure.

        Args: default, the answer when there is none or the value's JSON type is not the default's (an int will do for
            a float; None takes any type). A declared flag brings its own.
        Raises: nothing. Arrays and objects are fresh copies.
        """
        kind = type(context)
        asker: Any = context if kind is Context or kind is dict else self._resolve(context)
        if default is UNSET:
            default = flag.default if isinstance(flag, Flag) else None
        decision = self._asked(flag, asker)
        if decision.variant is None:
            return self._otherwise(decision, default)
        value = decision.value
        if type(value) is not type(default) and default is not None:
            # An int will do for a float, unless it is beyond any.
            value = contained(float, value, otherwise=None) if (type(value), type(default)) == (int, float) else None
            if value is None:
                self._count(ErrorCode.TYPE_MISMATCH)
                return default
        exposed = decision._exposed
        if exposed is not None:
            if kind is dict:
                asker = as_context(asker)
            key = asker._key
            if key and key not in exposed and not asker.synthetic:
                self._record(decision, key)
        return value

    def decide(self, flag: str, context: object = None) -> Decision:
        """The whole answer: variant, value, reason, rule; records the exposure. Raises: nothing."""
        kind = type(context)
        asker: Any = context if kind is Context or kind is dict else self._resolve(context)
        decision = self._asked(flag, asker)
        exposed = decision._exposed
        if exposed is not None:
            if kind is dict:
                asker = as_context(asker)
            key = asker._key
            if key and key not in exposed and not asker.synthetic:
                self._record(decision, key)
        return decision

    def peek(self, flag: str, context: object = None) -> Decision:
        """The same answer as ``decide``; records nothing. Raises: nothing."""
        return self._decide(flag, self._resolve(context))

    def expose(self, decision: Decision, context: object = None) -> None:
        """Record that the context's unit met ``decision``, which ``peek`` answered for it. Raises: nothing.

        For code that finds out what to do with an answer before it counts as met.
        """
        exposed = decision._exposed
        if exposed is not None and not in_shadow():
            asker = self._resolve(context)
            key = asker._key
            if key and key not in exposed and not asker.synthetic:
                self._record(decision, key)

    def decide_all(self, context: object = None) -> dict[str, Decision]:
        """The answers of all flags, by key; records nothing. Raises: nothing."""
        forced = scope.forced_for(self) if (scope := current_scope()) else None
        return self._awake().decide_all(self._resolve(context), forced)

    def explain(self, flag: str, context: object = None) -> Explanation:
        """Why the flag answers what it does: every rule tried, every condition, bucket and bound; records nothing."""
        forced = scope.forced_for(self) if (scope := current_scope()) else None
        return explain(self._awake(), flag, self._resolve(context), forced)

    # -- gates -------------------------------------------------------------------------------------------------------

    def gate(
        self,
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
        """A gate around risky code: the candidate or the control, measured, and back to the control by itself.

            @client.gate("new-search", unit_from="user_id", otherwise=search_v1)
            def search_v2(query, user_id): ...

            with client.gate("new-pricing", user) as gate:
                price = price_v2(cart) if gate.on else price_v1(cart)

        Args:
            context: as in ``enabled``; for a decorated function also a callable that makes it of the call's arguments.
            otherwise: what is called for the control: the off variant, and the one that the guard compares with. A
                decorated function needs one. It takes what the candidate does.
            variants: variant -> what is called for it, where there are more than two.
            unit_from: the name of the parameter that is the context.
            failed: whether a result is a failure although nothing was raised; if it raises, it is none.
            ignore: exceptions that are no failures. All others are, of both arms; the end of the process is none.
            fallback_on_error: when a candidate raises, call the control for this call too. One failure is counted.
            guard: the policy of the flag's guard, in place of the definitions'.

        Returns: the gate; used as a decorator it keeps name, signature and type of the function, which may be plain, a
            coroutine function, a generator or an asynchronous generator. A coroutine that a plain function returns is
            part of the call; an iterator or a future that it returns is not.
        Raises: ConfigError, when it decorates and an argument is wrong; nothing otherwise, whatever the flag.
        """
        if otherwise is None and guard is None and not ignore:
            return Gate(self, flag, context)  # of a ``with`` block, and one is made a call
        if isinstance(guard, GuardPolicy):
            self._guards.adopt(flag, guard)
        options = GateOptions(otherwise, variants or {}, unit_from, failed, ignore, fallback_on_error, guard)
        return Gate(self, flag, context, options)

    def choose(self, flag: str, context: object) -> Chosen:
        """For gates: the answer for a call that now runs, and where to report it; records the exposure."""
        kind = type(context)
        asker: Any = context if kind is Context else Context(context) if kind is str else self._resolve(context)
        answers = self._answers
        scope = current_scope()
        try:  # as `enabled` does, on the way of every gated call
            decision = (
                answers.compiled[flag](asker, None, answers) if scope is None else self._decide_in(scope, flag, asker)
            )
        except Exception:  # noqa: BLE001 - as in `enabled`
            decision = answers.decide(flag, asker)
        if decision._instead_of is not None:
            decision = self._guards.probe(decision)
        key, exposed = asker._key, decision._exposed
        if exposed is not None and key and key not in exposed and not asker.synthetic:
            self._record(decision, key)
        branch = decision._branch
        if asker.synthetic:
            branch = UNCOUNTED
        elif branch is None:
            branch = self._guards.branch(decision)
        if branch.by is not None:
            key = branch.by(asker)
        return decision, branch, key or None

    # -- shadows -----------------------------------------------------------------------------------------------------

    def shadow(
        self,
        flag: str,
        candidate: Callable[..., Any],
        *,
        policy: ShadowPolicy | None = None,
        context: object = None,
        unit_from: str | None = None,
    ) -> Shadow:
        """A decorator of the control: the candidate runs beside it on calls that the flag draws, for nobody to see.

            @client.shadow("new-ranker", candidate=rank_v2)
            def rank_v1(documents): ...

        Args: candidate, takes what the control does, plain or, if the control is one, a coroutine function; policy, how
            it runs, is compared and reported; context and unit_from as for ``gate``.
        Returns: the decorator; the function keeps name, signature and type, and its result, exceptions and time.
        Raises: ConfigError, when an argument is wrong, or control or candidate is a generator. A call raises nothing
            that the control does not. Results are in ``status.shadows``; docs/shadow.md is the manual.
        """
        # Not at import: many a program has none. Nor at a call, which a fork may meet in the midst of it.
        import flagkit.shadowing  # noqa: F401
        from flagkit.production.shadow import Shadow

        return Shadow(self, flag, candidate, policy, context, unit_from)

    def sample(self, flag: str, context: object, policy: ShadowPolicy, failure: str | None = None) -> ShadowDesk | None:
        """For shadows: who sees to the run, if the flag draws this call; records no exposure. Raises: nothing."""
        shadowing = self._shadowing
        if shadowing is None:
            from flagkit.shadowing import Shadowing  # it is loaded

            if self._closed:
                return None
            made = Shadowing(self._config.flush_interval_s, self._clock, self._answering, self._summed_up)
            shadowing = self._shadowing = self._shadowing or made
        return shadowing.sample(flag, self._resolve(context), current_scope(), policy, failure)

    # -- recording ---------------------------------------------------------------------------------------------------

    def track(self, event: str, context: object = None, /, *, value: float | None = None, **properties: Any) -> None:
        """Record a metric event, for the collector to join to exposures by unit.

        Args: event, its name, 1 to 128 characters; context as in ``enabled``, of which the unit travels and nothing
            else; value, a finite number; properties, JSON values.
        Raises: nothing; an event that cannot be sent is lost alone, and counted in ``status.account``. In a shadow run,
            and where an override forces answers, nothing is recorded: it would count for what the unit got otherwise.
        """
        if self._unheard():
            return
        if self._recording is not None:
            self._wake()
            self._recording.track(event, self._resolve(context), value, properties)
        if self._guards.metrics:
            contained(self._guards.late, event, self._resolve(context), self.peek, otherwise=None)

    def feedback(
        self, flag: str, *, score: float | None = None, text: str | None = None, context: object = None
    ) -> None:
        """Record what a user says of a flag, tied to the variant that his unit gets. No exposure.

        Args: score, a finite number; text, of which the first 2,000 characters are sent; at least one of the two.
            context as in ``enabled``, of which the unit travels and nothing else.
        Raises: nothing; what cannot be sent is lost alone, and counted in ``status.account`` as ``invalid_feedback``.
        """
        if self._recording is not None and not self._unheard():
            from flagkit.runtime import voice  # only who has something to say should pay for it

            self._wake()
            asker = self._resolve(context)
            contained(voice.feedback, self._recording, self.peek(flag, context), asker, score, text, otherwise=None)

    def enroll(self, flag: str, context: object = None) -> bool:
        """Opt a unit in to a flag that offers early access; return whether that will be sent.

        In this ``scope``, for its own context, it holds at once; in this process and all others as soon as the
        definitions tell of it. Of what is said of one unit the latest counts.

        Args: context as in ``enabled``; it must have a unit.
        Raises: nothing; without a unit, or for another flag, it is counted in ``status.account``.
        """
        return self._enrol(flag, context, wanted=True)

    def unenroll(self, flag: str, context: object = None) -> bool:
        """Opt a unit out of a flag that offers early access; as ``enroll``. It is out whoever enrolled it before."""
        return self._enrol(flag, context, wanted=False)

    def override(self, answers: Mapping[str, str | bool]) -> Ambient[None]:
        """Force answers inside a block, in this task only: flag -> variant, True (on) or False (off).

        They hold for the flags that depend on these. Nothing is recorded of calls that they make a difference to, nor
        what is tracked meanwhile. An answer that is no variant of its flag is ignored. With ``with``, ``async with``,
        or as a decorator of a function or coroutine function. Raises: ConfigError when the answers are none.
        """
        return overriding(answers)

    def allow_overrides(self, keys: str | Mapping[str, str], *, flags: Collection[str] = ()) -> None:
        """From now on take signed overrides, for flags with ``"overridable": true``; see ``scope``.

        Args: keys, ``"id:secret,id:secret"`` or id -> secret, each of at least 32 characters; all are accepted. flags,
            those that take them where definitions cannot say so: in the formats of other backends.
        Raises: ConfigError, which shows no secret; ModuleNotFoundError without the extra ``overrides``.
        """
        from flagkit.production.overrides import SignedOverrides

        if flags and self._feed.dialect == "native":
            raise ConfigError("flags", flags, 'none: native definitions say "overridable": true themselves')
        self._overrides = SignedOverrides(keys, self._clock.wall_ms, flags)

    def scope(self, context: object = None, *, override: str | None = None) -> Ambient[Mapping[str, str]]:
        """One request or task: its context is ambient, and a signed override that is good holds in it, in no other.

        Args: context, as in ``enabled``, or a function without parameters that makes it; None is nobody. override, the
            token that came with the request, if any; one that is refused changes nothing and is counted in ``status``.
        Yields: flag -> variant that the override forces; empty without one.
        With ``with``, ``async with``, or as a decorator of a function or coroutine function.
        Raises: nothing of its own. When the function raises, answers are the callers' defaults (INVALID_CONTEXT).
        """
        return Ambient(lambda: self._scope(context, override))

    @contextmanager
    def _scope(self, context: object, override: str | None) -> Iterator[Mapping[str, str]]:
        if callable(context):
            context = contained(context, otherwise=_NOBODY, failed=self.context_failed)
        asker, signed = ANONYMOUS if context is None else as_context(context), self._overrides
        granted: Mapping[str, str] = {}
        if signed is not None and override:
            # Not started again for each token that somebody makes up.
            snapshot = self._awake() if type(self._answers) is _Asleep else self._feed.snapshot
            granted = signed.granted(override, asker.unit_text, self._feed.environment(), snapshot.definitions)
        with entered(granting(asker, self, granted, override)):
            yield granted

    def context_failed(self, _: Exception) -> None:
        """For integrations: the application could not say who asks. Counted in ``status.errors``."""
        self._errors["CONTEXT_FAILED"] = self._errors.get("CONTEXT_FAILED", 0) + 1

    @property
    def takes_overrides(self) -> bool:
        """Whether ``allow_overrides`` has been called."""
        return self._overrides is not None

    # -- listening ---------------------------------------------------------------------------------------------------

    def add_handler(self, event: Event, handler: Handler) -> None:
        """Call ``handler`` with an ``EventDetails`` whenever ``event`` happens, on a background thread.

        Args: event, ``ready``, ``configuration_changed``, ``stale``, ``error`` or ``alert``; a handler of how things
            stand already is called at once. handler: may block, raise, or use and close this client; never called twice
            at once.
        Raises: ConfigError. What a handler raises, and one that takes over a second, is logged, once an episode.
        """
        self._feed.handlers.add(event, handler)

    def remove_handler(self, event: Event, handler: Handler) -> None:
        """No longer call ``handler``. Raises: nothing, also when it was not there."""
        self._feed.handlers.remove(event, handler)

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start fetching and delivering in the background. Done by the first question too. Raises: nothing."""
        if self._closed:
            return
        process.adopt(self)
        self._feed.start()
        self._guarding.start()
        if self._recording is not None:
            self._recording.start()
        if self._reporting is not None:
            self._reporting.start()
        # Or it stays asleep: what notices the fork is a worker's first question, and what it meets it records itself.
        if not process.preforking:
            if self._recording is not None:
                self._record = self._recording.exposures.record
            # Another thread may publish between a read and a store here, so look again until both are the same.
            while self._answers is not self._feed.snapshot:
                self._answers = self._feed.snapshot
            lanes = (self._feed, self._guarding, self._recording, self._reporting)
            if not all(lane is None or lane.running for lane in lanes):
                self._slumber()  # a thread could not be started, or died just now: the next question tries again

    # For all that wait: `timeout_s` is an int or a float, 0 and up; less is 0, infinity is thirty days, and what is no
    # number of seconds is the default, counted in `status.errors` as INVALID_TIMEOUT.

    def wait_ready(self, timeout_s: float = _WAIT_S) -> bool:
        """Whether definitions are there, after waiting at most ``timeout_s`` seconds. Raises: nothing."""
        timeout_s = usable_s(timeout_s, _WAIT_S, self._errors)
        self.start()
        return self._feed.wait_ready(timeout_s)

    def refresh(self, timeout_s: float = _WAIT_S) -> bool:
        """Ask the source now; return whether it confirmed the definitions within ``timeout_s`` seconds.

        For handlers that were frozen between two calls. While the source fails, its own pace is kept. Raises: nothing.
        """
        timeout_s = usable_s(timeout_s, _WAIT_S, self._errors)
        if self._closed:
            return False
        return self._feed.refresh(self.start, timeout_s)

    def invocation(self, timeout_s: float = _CALL_S) -> Invocation[Client]:
        """One call of a serverless function: definitions no older than a poll interval, every event sent at its end.

            with client.invocation(timeout_s=0.3): ...      # in coroutines `async with`

            @client.invocation(timeout_s=0.3)
            async def handler(event): ...

        Threads stand still between two calls of such functions, so the caller waits: at most ``timeout_s`` seconds at
        the beginning, if the definitions are old, and as long at the end. ``async with`` waits on another thread, and
        holds no loop; cancelled at the end, it first lets the events be sent. A decorator of functions, coroutine
        functions, generators and asynchronous generators too; one serves any number of calls.
        Raises: nothing of its own, but ConfigError when it decorates what is no function.
        """
        from flagkit.invocation import Invocation  # not at import: many a program has no use for it

        timeout_s = usable_s(timeout_s, _CALL_S, self._errors)
        return Invocation(self, timeout_s, behind=self._behind, refresh=self.refresh, flush=self.flush)

    def flush(self, timeout_s: float = _WAIT_S) -> int:
        """Send what is recorded; return how many are left after ``timeout_s`` seconds at most. Raises: nothing."""
        timeout_s = usable_s(timeout_s, _WAIT_S, self._errors)
        process.notice_fork()
        if self._shadowing is not None:
            self._shadowing.tell()
        ends_s = self._clock.monotonic_s() + timeout_s
        left = self._recording.flush(timeout_s) if self._recording is not None else 0
        if self._reporting is not None:
            left += self._reporting.flush(max(0.0, ends_s - self._clock.monotonic_s()))
        return left

    def close(self, timeout_s: float = _WAIT_S) -> int:
        """Flush, stop the threads, let go of connections; return how many events are left. Again: does nothing.

        The flush ends after ``timeout_s`` seconds at most. Questions are still answered afterwards, from the last
        definitions; events are lost, and counted. Raises: nothing.
        """
        timeout_s = usable_s(timeout_s, _WAIT_S, self._errors)
        if self._closed:
            return 0
        process.notice_fork()
        self._closed = True
        self._answers = self._feed.snapshot
        ends_s = self._clock.monotonic_s() + timeout_s
        self._feed.stop()
        if self._shadowing is not None:
            self._shadowing.close()
        left = self._recording.close(timeout_s) if self._recording is not None else 0
        if self._reporting is not None:
            left += self._reporting.close(max(0.0, ends_s - self._clock.monotonic_s()))
        self._guarding.close(min(_GUARDS_S, max(0.0, ends_s - self._clock.monotonic_s())))
        self._alerting.close(min(_GUARDS_S, max(0.0, ends_s - self._clock.monotonic_s())))
        self._feed.close(ends_s)
        return left

    def __enter__(self) -> Client:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def status(self) -> Status:
        """How it stands: definitions, source, sink, and the account of every event. A frozen value. Raises: nothing."""
        feed, guarding, recording, reporting = self._feed, self._guarding, self._recording, self._reporting
        ends = (feed, guarding, self._alerting, recording, reporting, self._shadowing)
        snapshot = feed.snapshot
        self._changed()  # what is told of is what answers
        return Status(
            ready=snapshot.ready,
            version=snapshot.definitions.version,
            age_s=feed.current.age_s,
            origin=feed.current.origin,
            source=feed.poller.state,
            stream=feed.stream.state if feed.stream is not None else None,
            sink=recording.state if recording is not None else None,
            account=recording.account() if recording is not None else None,
            problems=feed.current.problems + self._guards.problems,
            trips=ReadOnly(self._guards.book.reasons(snapshot.definitions)),
            fleet=guarding.fleet,
            alerts=self._alerting.alerts.status,
            guards=self._guards.states,
            variants=self._guards.meters,
            errors=ReadOnly(self._errors),
            worker_faults=sum(end.faults for end in ends if end is not None),
            disk=worst(feed.poller.disk, guarding.disk, recording.disk if recording is not None else None),
            usage=reporting.state if reporting is not None else None,
            overrides=ReadOnly(self._overrides.counts) if self._overrides is not None else ReadOnly(),
            remote=feed.inquiries.state if feed.inquiries is not None else None,
            shadows=self._shadowing.statuses if self._shadowing is not None else (),
            holds=ReadOnly(self._guards.book.held(snapshot.definitions)),
        )

    # -- within ------------------------------------------------------------------------------------------------------

    def _resolve(self, context: object) -> Context:
        if context is None:
            scope = current_scope()
            return ANONYMOUS if scope is None or scope.context is None else scope.context
        return as_context(context)

    def _decide(self, flag: str, context: Any) -> Decision:
        answers = self._answers
        scope = current_scope()
        try:
            return (
                answers.compiled[flag](context, None, answers)
                if scope is None
                else self._decide_in(scope, flag, context)
            )
        except Exception:  # noqa: BLE001 - as in `enabled`
            return answers.decide(flag, as_context(context))

    #: The same for the verbs that tell a variant, where ``counting`` counts.
    _asked = _decide

    def _decide_in(self, scope: Scope, flag: str, asker: Any) -> Decision:
        """The answer inside a scope: forced ones first, and for the ambient context the one given before."""
        decision = self._decide_pinned(scope, flag, asker)
        return decision.unseen(UNCOUNTED) if scope.shadow else decision

    def _decide_pinned(self, scope: Scope, flag: str, asker: Any) -> Decision:
        answers, context = self._answers, as_context(asker)
        forced = scope.forced if scope.granted is None else scope.forced_for(self)
        decision = answers.decide(flag, context, forced)
        if forced and decision.error_code is None:
            if decision.reason is Reason.OVERRIDE:
                return decision
            if decision is not answers.decide(flag, context, FORCES_NOTHING):
                return decision.unseen(BORROWED)  # an override in a prerequisite made the difference
        if context is not scope.context or not issubclass(type(flag), str):
            return decision
        if decision.error_code is not None:
            return scope.pins.get((self, flag), decision)  # type: ignore[no-any-return]
        pinned: Decision = scope.pins.setdefault((self, flag), decision)
        if pinned is decision or decision.reason not in _ENDS_PIN:
            return pinned
        scope.pins[self, flag] = decision
        return decision

    def _otherwise(self, decision: Decision, default: T) -> T:
        if decision.error_code is not None:
            self._count(decision.error_code)
        return default

    def _count(self, code: ErrorCode) -> None:
        # Not exact when two threads err at once, and not worth a lock: it says what goes wrong, not how often.
        self._errors[code.value] = self._errors.get(code.value, 0) + 1

    def _enrol(self, flag: str, context: object, *, wanted: bool) -> bool:
        if self._recording is None or in_shadow():
            return False
        from flagkit.runtime import voice

        self._wake()
        known = snapshot.definitions if (snapshot := self._feed.snapshot).ready else None
        asker = self._resolve(context)
        return contained(voice.enrol, self._recording, known, flag, asker, wanted, otherwise=False)

    def _behind(self) -> bool:
        """Whether the definitions are older than a poll interval."""
        age_s = self._feed.current.age_s
        return age_s is None or age_s > self._config.poll_interval_s

    def _unheard(self) -> bool:
        """Whether nobody is to know of what happens here: in a shadow run, or where answers are forced."""
        scope = current_scope()
        return scope is not None and (scope.shadow or bool(scope.forced_for(self)))

    def _wake(self) -> None:
        process.notice_fork()
        if type(self._answers) is _Asleep:
            self.start()

    def _answering(self) -> Snapshot:
        return self._awake() if type(self._answers) is _Asleep else self._feed.snapshot

    def _summed_up(self, properties: Mapping[str, Any]) -> None:
        """A flag's shadow runs in short, from their own thread or a flush."""
        if self._recording is not None:
            self._recording.track("flagkit.shadow", ANONYMOUS, None, properties)

    def _awake(self) -> Snapshot:
        self.start()
        return self._feed.snapshot

    def _tripped(self, told: Told) -> None:
        """A guard has found out something: on whichever thread is counting."""
        if self._recording is not None:
            self._recording.track("flagkit.trip", ANONYMOUS, None, told.properties)
        self._alerting.tripped(told)

    def _labels(self) -> Mapping[str, str]:
        environment = self._feed.environment()
        return {} if environment is None else {"environment": environment}

    def _stands(self, standing: EventDetails | None) -> None:
        account = self._recording.account() if self._recording is not None else None
        self._alerting.look(standing, self._feed.poller.state.name, account.lost if account is not None else {})

    def _changed(self) -> None:
        # Whichever of two threads gets here last: the latest stays.
        while type(self._answers) is not _Asleep and self._answers is not self._feed.snapshot:
            self._answers = self._feed.snapshot
            self._guarding.start()

    def _slumber(self) -> None:
        """A thread is ending that nobody asked to: the next questions, whoever asks them, start another."""
        if not self._closed:
            self._answers = _Asleep(self)

    def after_fork(self) -> None:
        """For the fork hook: forget the parent's threads and connections; the first question starts new ones."""
        if self._closed:
            return
        self._answers = _Asleep(self)
        self._feed.after_fork()
        self._guarding.after_fork()
        self._alerting.after_fork()
        for end in (self._recording, self._reporting, self._shadowing):
            if end is not None:
                end.after_fork()

    def at_exit(self, elapsed_s: float) -> None:
        """For the exit hook: a last flush within what is left of ``exit_deadline_s``."""
        left_s = max(0.0, self._config.exit_deadline_s - elapsed_s)
        if not self._closed:
            self.close(left_s)
        elif self._recording is not None:
            self._recording.join(left_s)  # it was forgotten just now, and closes itself

    def __del__(self) -> None:
        # Any thread may be here, in the midst of anything, so that all that takes time is left to the thread that
        # delivers; it holds the client until that is done.
        if self._closed or process.pid != os.getpid():
            return
        recording = self._recording
        pending = recording.account().pending if recording is not None else 0
        if recording is not None and pending:
            process.residents.add(self)
            if not recording.bequeath(self._end):
                _lost(pending)
        if pending or type(self._answers) is not _Asleep:
            contained(warn, f"nobody closed {self!r}", ResourceWarning, otherwise=None)

    def _end(self) -> None:
        left = self.close(self._config.exit_deadline_s)
        if left and self._config.state_dir is None:
            _lost(left)


def _lost(count: int) -> None:
    message = "%d events are lost with a client that was forgotten without close()"
    contained(logger().warning, message, count, otherwise=None)


def _nowhere(decision: Decision, key: bytes) -> None:
    """Records nothing."""
