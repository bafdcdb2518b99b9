"""``Alerting``: everything between something that people should hear of and their hearing it, put together once.

``production.alerts`` decides what is an episode; its thread is made here, and so is the look at what nobody raises by
himself: definitions that are stale, events that are lost. Nothing runs before there is something to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flagkit.clock import Clock
from flagkit.production.alerts import Alert, Alerts, Messenger
from flagkit.production.told import Told
from flagkit.runtime.handlers import EventDetails
from flagkit.runtime.worker import Worker


class Alerting:
    """See the module.

    Args: webhook: None: there is none. emit: hands an alert to the application's handlers. labels: of this process.
    """

    def __init__(
        self,
        webhook: Messenger | None,
        clock: Clock,
        emit: Callable[[EventDetails], None],
        labels: Callable[[], Mapping[str, str]],
    ) -> None:
        def told(alert: Alert) -> None:
            emit(EventDetails("alert", alert.flags, f"{alert.kind} of {alert.about}: {alert.message}"))

        self.alerts = Alerts(clock, emit=told, webhook=webhook, labels=labels)
        self._worker = Worker("flagkit-alerts", self.alerts.step, clock)
        self.alerts.wake = self._worker.wake
        self._losses: Mapping[str, int] = {}

    def tripped(self, told: Told) -> None:
        """A guard has found out something."""
        notice = told.notice
        if told.rolled_back:
            done = f"{notice.candidate} is rolled back to {notice.control}"
        elif told.held:
            done = f"goes back a step of its ramp and is held there: {', '.join(told.held)}"
        else:
            done = f"{notice.candidate} is not rolled back" if notice.candidate else "is served as before"
        message = f"{done}, revision {notice.revision}: {notice.why}"
        self.alerts.over("trip", notice.flag)
        self.alerts.raise_("trip", notice.flag, message)

    def look(self, standing: EventDetails | None, source: str, losses: Mapping[str, int]) -> None:
        """See how the definitions stand, and which events have been lost so far, by reason."""
        if standing is not None and standing.event == "stale":
            self.alerts.raise_("stale", source, "nobody has confirmed the definitions for two intervals, or a minute")
        elif standing is not None and standing.event == "ready":
            self.alerts.over("stale", source)
        before, self._losses = self._losses, losses
        for reason, count in losses.items():
            more = count - before.get(reason, 0)
            if more:
                self.alerts.raise_("lost", reason, f"{more} now, {count} since the start")
            else:
                self.alerts.over("lost", reason)

    @property
    def faults(self) -> int:
        return self._worker.faults

    def close(self, timeout_s: float) -> None:
        """Let what is being told be told, for at most ``timeout_s`` seconds."""
        self._worker.stop(timeout_s)
        self.alerts.close()

    def after_fork(self) -> None:
        self.alerts.after_fork()
        self._worker.after_fork()
        self._losses = {}
