"""``Run``: one call that is run twice: the control is watched, then the candidate runs where the policy says.

It is made on the caller's thread, before the control runs, and settled exactly once: with a result, or dropped for a
reason. Whatever candidate and policy do stays in here. ``Desk`` is what it needs of its flag.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Final, Protocol

from flagkit.boundary import contained
from flagkit.context import enter_shadow
from flagkit.errors import ShadowMismatch
from flagkit.production.passage import cut_off
from flagkit.production.shadow_compare import Judge
from flagkit.production.shadow_policy import ShadowPolicy
from flagkit.production.shadow_result import TIMEOUT, UNJUDGED, Observation, ShadowResult, type_of
from flagkit.production.shadow_tally import Failure

_UNSEEN: Final = Observation()


def from_outside(error: BaseException) -> bool:
    """Whether whoever ends the caller's call raised it, and not a function of the policy that was running just then."""
    return isinstance(error, (KeyboardInterrupt, GeneratorExit)) or cut_off(type(error))


class Desk(Protocol):
    """What a run needs of its flag."""

    flag: str
    generation: int
    judge: Judge
    now_s: Callable[[], float]
    cpu_s: Callable[[], float]
    random: Callable[[], float]

    def add(self, piece: object) -> None:
        """Count."""
        ...

    def enter(self, run: Run) -> bool:
        """Whether there is room for it to run now."""
        ...

    def leave(self, run: Run) -> None:
        """It runs no more."""
        ...

    def hand_over(self, run: Run, policy: ShadowPolicy, *, asynchronous: bool) -> None:
        """Have it run where the policy says."""
        ...


class Run:
    """See the module. ``began_s``: when the candidate began, None before."""

    __slots__ = (
        "__weakref__",
        "_about",
        "_args",
        "_around",
        "_candidate",
        "_claim",
        "_desk",
        "_generation",
        "_inner",
        "_kwargs",
        "_mark",
        "_places",
        "_task",
        "began_s",
        "control",
        "first",
        "policy",
        "seen",
    )

    def __init__(
        self, desk: Desk, policy: ShadowPolicy, candidate: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> None:
        self._desk = desk
        self.policy = policy
        self._candidate: Any = candidate
        self._args = args
        self._kwargs = kwargs
        #: The caller's context as it is now, and the one of the candidate.
        self._around: Context = copy_context()
        self._inner: Context = self._around.copy()
        #: Taken by whoever settles the run.
        self._claim: deque[None] = deque((None,))
        self._generation = desk.generation
        self._about: Any = None
        self._task: Any = None
        #: Where its place goes back to when it waits no more.
        self._places: deque[None] | None = None
        self._mark = (0.0, 0.0)
        self.began_s: float | None = None
        self.control = _UNSEEN
        self.seen = _UNSEEN
        self.first = "control"

    # -- on the caller's thread

    def is_ahead(self) -> bool:
        """Whether the candidate is to run before the control, here; it has room then. In half of the inline runs."""
        policy = self.policy
        if not policy.inline or not policy.random_order or self._desk.random() >= 0.5 or not self.enter():
            return False
        self.first = "candidate"
        return True

    def observe_apart(self) -> None:
        """Call the candidate here, in a context of its own. Raises: nothing."""
        self._inner.run(self.observe)
        self.began_s = None  # what the control takes after it is not the candidate's

    def hand_over(self, *, asynchronous: bool = False) -> None:
        """Have the candidate run where the policy says. Never waits. Raises: nothing."""
        contained(lambda: self._desk.hand_over(self, self.policy, asynchronous=asynchronous), otherwise=None)

    def take_place(self, places: deque[None]) -> bool:
        """Whether there is a place to wait in, among ``places``; it is given back by itself."""
        try:
            places.pop()
        except IndexError:
            return False
        self._places = places
        return True

    def interrupt(self, *, ahead: bool) -> None:
        """The control is being ended from outside."""
        self.drop("interrupted")
        if ahead:
            self.leave()

    def control_begins(self) -> None:
        self._mark = (self._desk.now_s(), self._desk.cpu_s())

    def control_returned(self, value: Any, *, shared: bool = False) -> None:
        """``shared``: other work ran on its thread meanwhile."""
        wall_s, cpu_s = self._since(self._mark)
        copy = self.policy.copy_result
        if copy is not None:
            try:
                value = copy(value)
            except BaseException as error:
                if from_outside(error):
                    self.interrupt(ahead=True)  # nobody else would give its room back
                    raise
                self._desk.add(Failure(f"copy_result: {type_of(error)}"))
                self.drop("copy_error")
        self.control = Observation(value, wall_s=wall_s, cpu_s=None if shared else cpu_s)

    def control_raised(self, error: Exception, *, shared: bool = False) -> None:
        wall_s, cpu_s = self._since(self._mark)
        self.control = Observation(exception=error, wall_s=wall_s, cpu_s=None if shared else cpu_s)

    def drop(self, reason: str) -> None:
        """The candidate is not going to run, or nobody is to know. Raises: nothing."""
        if self._claimed():
            self._desk.add(reason)
            self._wait_no_more()
            self._let_go()

    @property
    def settled(self) -> bool:
        return not self._claim

    # -- anywhere

    def __call__(self) -> None:
        """Run the candidate, compare, publish. Raises: nothing."""
        if self.enter():
            try:
                self._inner.run(self.observe)
                self.finish()
            finally:
                self.leave()

    async def asynchronously(self) -> None:
        """The same for a coroutine function, on the running loop. Raises: what cancels it, and nothing else."""
        if self.enter():
            try:
                await self.observed()
                self.finish()
            finally:
                self.leave()

    def leave(self) -> None:
        """Give its room back, at the latest when it has really ended."""
        task = self._task
        if task is None or task.done():
            self._desk.leave(self)
        else:
            task.add_done_callback(lambda _: self._desk.leave(self))

    def enter(self) -> bool:
        """Whether it is to run now; else it is dropped."""
        if self.settled:
            return False
        self._wait_no_more()
        if self._desk.enter(self):
            self.began_s = self._desk.now_s()
            return True
        self.drop("busy")
        return False

    def observe(self) -> None:
        """Call the candidate, in its context. Raises: nothing."""
        self._prepare()
        mark = self._desk.now_s(), self._desk.cpu_s()
        try:
            value = self._candidate(*self._args, **self._kwargs)
            if hasattr(type(value), "__await__"):
                value = _completed(value, self.policy.budget_s)
        except BaseException as error:  # noqa: BLE001 - the boundary to the candidate: it may ask for the very end
            wall_s, cpu_s = self._since(mark)
            self.seen = Observation(exception=error, wall_s=wall_s, cpu_s=cpu_s)
        else:
            wall_s, cpu_s = self._since(mark)
            self.seen = Observation(value, wall_s=wall_s, cpu_s=cpu_s)

    async def observed(self) -> None:
        """The same for a coroutine, as a task of its own, for no longer than the budget. Raises: its canceller's."""
        import asyncio  # not at import; whoever is here has it

        began_s = self._desk.now_s()
        loop = asyncio.get_running_loop()
        task = self._task = loop.create_task(self._coroutine(), context=self._inner)
        try:
            await asyncio.wait({task}, timeout=self.policy.budget_s)
        except BaseException:
            task.cancel()
            self.drop("interrupted")
            raise
        if task.done():
            self.began_s = None  # as in ``observe_apart``
            return
        task.cancel()
        self.seen = Observation(wall_s=self._desk.now_s() - began_s)
        late = self.expire()
        if late is not None:
            self.publish(late)

    def finish(self) -> ShadowResult | None:
        """Judge and publish what both did; None if that is settled already. Raises: nothing."""
        if self.settled:
            self._let_go()
            return None
        result = ShadowResult(self._desk.flag, UNJUDGED, self.control, self.seen, self.first, about=self._about)
        began_s = self.began_s
        try:
            result = self._inner.run(self._desk.judge.judge, self.policy, result)
        except BaseException as error:  # noqa: BLE001 - the boundary to the policy's functions, SystemExit included
            result = result._replace(failures=(f"compare: {type_of(error)}",))
        took_s = self.seen.wall_s or 0.0 if began_s is None else self._desk.now_s() - began_s
        if took_s > self.policy.budget_s:
            result = result._replace(outcome=TIMEOUT)
        if not self._claimed():
            self._let_go()
            return None
        self._desk.add(result)
        self.publish(result)
        self._let_go()
        return result

    def expire(self) -> ShadowResult | None:
        """It is past its budget: what is to be published of that; None if it is settled already."""
        if not self._claimed():
            return None
        result = ShadowResult(self._desk.flag, TIMEOUT, self.control, self.seen, self.first, about=self._about)
        self._desk.add(result)
        return result

    def publish(self, result: ShadowResult) -> None:
        """Tell the policy's ``publish``, in the caller's context. Raises: nothing."""
        tell = self.policy.publish
        if tell is not None:
            try:
                self._around.copy().run(tell, result)
            except BaseException as error:  # noqa: BLE001 - as above
                self._desk.add(Failure(f"publish: {type_of(error)}"))

    def complaint(self, result: ShadowResult | None) -> BaseException | None:
        """What ``raise_on_mismatch`` wants raised of ``result``."""
        wanted = self.policy.raise_on_mismatch
        if result is None or wanted is False or result.matched:
            return None
        plain: BaseException = ShadowMismatch(repr(result))
        made = plain if wanted is True else contained(wanted, result, otherwise=plain)
        return made if isinstance(made, BaseException) else plain

    def __del__(self) -> None:
        # Whoever it was handed to has let go of it: it counts as one that never ran.
        if self._claim and self._generation == self._desk.generation:
            self.drop("never_run")

    # -- within

    def _claimed(self) -> bool:
        try:
            self._claim.pop()
        except IndexError:
            return False
        return True

    def _wait_no_more(self) -> None:
        places, self._places = self._places, None
        if places is not None:
            places.append(None)

    def _let_go(self) -> None:
        """Hold nothing of the application any longer than needed."""
        self._args, self._kwargs, self._about = (), {}, None
        self.control = self.seen = _UNSEEN

    def _since(self, mark: tuple[float, float]) -> tuple[float, float]:
        return self._desk.now_s() - mark[0], max(0.0, self._desk.cpu_s() - mark[1])

    def _prepare(self) -> None:
        enter_shadow()
        about = self.policy.about
        if about is not None:
            try:
                self._about = about(*self._args, **self._kwargs)
            except BaseException as error:  # noqa: BLE001 - as above
                self._desk.add(Failure(f"about: {type_of(error)}"))

    async def _coroutine(self) -> None:
        self._prepare()
        began_s = self._desk.now_s()
        try:
            value = self._candidate(*self._args, **self._kwargs)
            if hasattr(type(value), "__await__"):
                value = await value
        except BaseException as error:  # noqa: BLE001 - as above
            self.seen = Observation(exception=error, wall_s=self._desk.now_s() - began_s)
        else:
            self.seen = Observation(value, wall_s=self._desk.now_s() - began_s)


def _completed(awaitable: Any, budget_s: float) -> Any:
    """What a coroutine comes to, on a loop of its own in this thread; past its budget it is cancelled."""
    import asyncio  # as above

    async def main() -> Any:
        async with asyncio.timeout(budget_s):
            return await awaitable

    return asyncio.run(main())
