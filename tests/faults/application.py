"""An application in a process of its own, as a user might write it: threads that ask and track without end.

Run as a program by ``tests.faults.stage``. Each line in is ``[verb, arguments]``, each line out ``[ok, answer]``. It
writes down what a support case would show: the log at DEBUG, and what its objects print. All that callers see, and how
long they wait for it, is measured; a thread that only sleeps measures how busy the machine is.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import sys
import threading
import time
import traceback
from array import array
from collections.abc import Callable
from typing import Any

SETTINGS: dict[str, Any] = json.loads(sys.argv[1])
#: Written before the client is made, and run with the names of this module: faults of this very process.
exec(compile(SETTINGS["prelude"], "<prelude>", "exec"))

import flagkit  # noqa: E402

#: An attribute that must not leave the process.
PRIVATE: str = SETTINGS["private"]
UNITS = 20
raised: list[str] = []
numbering = itertools.count()
calling = threading.Event()
callers: list[threading.Thread] = []


class Waits:
    """How long calls took, in seconds."""

    def __init__(self) -> None:
        self.taken = array("d")

    @property
    def count(self) -> int:
        return len(self.taken)

    def summary(self) -> dict[str, float]:
        taken = sorted(self.taken)
        if not taken:
            return {"count": 0, "p999_s": 0.0, "worst_s": 0.0}
        return {"count": len(taken), "p999_s": taken[int(len(taken) * 0.999)], "worst_s": taken[-1]}


waits = {"enabled": Waits(), "track": Waits(), "control": Waits()}
#: What each thread read of the flag ``number``, one entry a change; unit -> the same of ``half`` and ``vip``.
numbers: list[list[int]] = []
halves: dict[str, list[bool]] = {}
vips: dict[str, list[bool]] = {}


def changed(seen: list[Any], value: Any) -> None:
    if not seen or seen[-1] != value:
        seen.append(value)


def noted(error: BaseException) -> None:
    raised.append("".join(traceback.format_exception(error)))


def unforeseen(told: Any) -> None:
    """What nobody caught, in a thread or a destructor."""
    if told.exc_type is not SystemExit:
        noted(told.exc_value or told.exc_type())


def track(event: str = "order", unit: object = "someone", **properties: Any) -> None:
    """Track an event that carries a number of its own."""
    properties = {"n": next(numbering), **properties}
    began_s = time.perf_counter()
    client.track(event, unit, value=1, **properties)
    waits["track"].taken.append(time.perf_counter() - began_s)


def call(name: str) -> None:
    """Ask and track, a few hundred times a second."""
    seen: list[int] = []
    numbers.append(seen)
    contexts = [flagkit.Context(f"{name}-{number}", {"email": PRIVATE}) for number in range(UNITS)]
    taken = waits["enabled"].taken
    for turn in itertools.count():
        if not calling.is_set():
            return
        context = contexts[turn % UNITS]
        try:
            began_s = time.perf_counter()
            half = client.enabled("half", context)
            taken.append(time.perf_counter() - began_s)
            changed(halves.setdefault(str(context.unit), []), half)
            changed(vips.setdefault(str(context.unit), []), client.enabled("vip", context))
            changed(seen, client.value("number", context, default=-1))
            if turn % SETTINGS["track_every"] == 0:
                track("order", context)
        except Exception as error:  # noqa: BLE001 - whatever came out is what the test asks about
            noted(error)
        time.sleep(SETTINGS["pause_s"])


def control() -> None:
    """How late a thread wakes that waits for nothing: what the machine takes, and no caller can be blamed for."""
    taken = waits["control"].taken
    while calling.is_set():
        began_s = time.perf_counter()
        time.sleep(0.001)
        taken.append(time.perf_counter() - began_s - 0.001)


def rest() -> None:
    """Let the callers come home."""
    calling.clear()
    for thread in callers:
        thread.join()
    callers.clear()


def run() -> None:
    """Start the callers."""
    calling.set()
    jobs: list[tuple[Callable[..., None], tuple[Any, ...]]] = [(control, ())]
    jobs += [(call, (f"{os.getpid()}-{number}",)) for number in range(SETTINGS["callers"])]
    for job, arguments in jobs:
        callers.append(threading.Thread(target=job, args=arguments, daemon=True))
        callers[-1].start()


def standing(of: flagkit.Client | None = None) -> dict[str, Any]:
    """``client.status`` as JSON."""
    now = (of or client).status
    account = now.account
    return {
        "ready": now.ready,
        "version": now.version,
        "age_s": now.age_s,
        "source": now.source and now.source._asdict(),
        "sink": now.sink and now.sink._asdict(),
        "account": account and {"adopted": 0, **account._asdict(), "balanced": account.balanced},
        "problems": [str(problem) for problem in now.problems],
        "errors": dict(now.errors),
        "worker_faults": now.worker_faults,
        "disk": getattr(now, "disk", None),
    }


def memory_kb(field: str = "VmHWM") -> int:
    """The process's memory, at its peak or (``VmRSS``) now."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field))


def forget_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def report() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "numbers": numbers,
        "halves": halves,
        "vips": vips,
        "waits": {name: wait.summary() for name, wait in waits.items()},
        "tracked": waits["track"].count,
        "raised": raised,
        "status": standing(),
        "peak_kb": memory_kb(),
    }


def finish(timeout_s: float) -> dict[str, Any]:
    """The end of a good application."""
    rest()
    left = client.flush(timeout_s)
    told = report()
    write_down()
    return {**told, "left": left, "left_at_close": client.close(timeout_s)}


def do(code: str, values: dict[str, Any]) -> Any:
    """Run what the test says with the names of this module; ``answer`` is what it wants to know."""
    names = globals()
    names.pop("answer", None)
    names.update(values)
    exec(compile(code, "<test>", "exec"), names)
    return names.get("answer")


def write_down() -> None:
    """Everything of flagkit's that prints itself, as a debugger, a crash report or a curious colleague would see it."""
    seen: set[int] = set()
    lines: list[str] = []

    def dump(thing: object, depth: int) -> None:
        if id(thing) in seen or depth > 8:
            return
        seen.add(id(thing))
        lines.append(f"{thing!r} {thing!s} {thing:}" if type(thing).__format__ is object.__format__ else repr(thing))
        members = dict(getattr(thing, "__dict__", {}))
        if type(thing).__module__.startswith("flagkit") and type(thing).__name__ != "Secret":
            slots = [slot for kind in type(thing).__mro__ for slot in getattr(kind, "__slots__", ())]
            members.update({slot: getattr(thing, slot) for slot in slots if hasattr(thing, slot)})
        for member in members.values():
            if type(member).__module__.split(".")[0] in ("flagkit", "requests", "urllib3"):
                dump(member, depth + 1)
            else:
                lines.append(repr(member))

    for thing in (client, client.status, flagkit):
        with contextlib.suppress(RuntimeError):  # something changed while it was read
            dump(thing, 0)
    with open(os.path.join(SETTINGS["directory"], f"dump-{os.getpid()}.txt"), "a") as file:
        file.write("\n".join(lines))


class Crashes(logging.Handler):
    """A log at DEBUG, and of each exception in it what a crash reporter sends: the local variables of every frame.

    Written without a buffer, whose lock would be held for ever in a child that was forked while a thread wrote.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def emit(self, record: logging.LogRecord) -> None:
        os.write(self.out, f"{self.format(record)}\n".encode(errors="backslashreplace"))

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.exc_info and record.exc_info[1]:
            seen = traceback.TracebackException.from_exception(record.exc_info[1], capture_locals=True)
            text += "\n" + "".join(line[:2000] for line in seen.format())
        return text


def made(**settings: Any) -> flagkit.Client:
    """A client as the test asked for it."""
    config = flagkit.Config(**{**SETTINGS["config"], **settings})
    ca_file = {"ca_file": SETTINGS["ca_file"]} if SETTINGS["ca_file"] else {}
    if not ca_file:
        return flagkit.Client(SETTINGS["url"], key=SETTINGS["key"], config=config)
    source = flagkit.sources.Http(SETTINGS["url"], key=SETTINGS["key"], **ca_file)
    sink = flagkit.sinks.Http(SETTINGS["url"], key=SETTINGS["key"], **ca_file)
    return flagkit.Client(source=source, sink=sink, config=config)


def main() -> None:
    verbs = {"do": do, "run": run, "rest": rest, "status": standing, "report": report, "finish": finish}
    out = os.dup(1)
    os.dup2(2, 1)
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        try:
            answer = [True, verbs[verb](*arguments)]
        except Exception as error:  # noqa: BLE001 - it is the test's to judge
            answer = [False, "".join(traceback.format_exception(error))]
        os.write(out, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    log = Crashes(os.path.join(SETTINGS["directory"], "app.log"))
    log.setFormatter(logging.Formatter("%(asctime)s %(threadName)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.DEBUG, handlers=[log])
    threading.excepthook = sys.unraisablehook = unforeseen
    import requests  # noqa: F401 - which takes longer than anything a client does when it is made

    began_s = time.perf_counter()
    client = made()
    made_in_s = time.perf_counter() - began_s
    main()
