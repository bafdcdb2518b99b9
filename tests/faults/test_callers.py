"""Rows A1 to A6: what callers meet whatever happens behind them. The closing check of every scenario asks it too."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.faults import answers
from tests.faults.stage import Stage, check_waits
from tests.unit.loopback import Script

WRONG_USE = """
class Hostile:
    def __str__(self): raise RuntimeError
    __repr__ = __eq__ = __hash__ = __len__ = __iter__ = __getattr__ = __str__
answer = []
for flag in (None, 7, b"half", ["half"], {}, Hostile(), "", "no such flag", "half\\x00", "x" * 1_000_000):
    for context in (None, "u", 7, b"u", [], {"unit": None}, {"unit": Hostile(), "email": Hostile()}, Hostile(), 1.5):
        answer.append([
            client.enabled(flag, context), client.enabled(flag, context, default=True),
            client.variant(flag, context, default="d"), client.value(flag, context, default=7),
            client.decide(flag, context).error_code is not None, client.peek(flag, context).error_code is not None,
        ])
        client.explain(flag, context)
        client.track(flag, context)
        client.track("order", context, value=flag, flag=flag)
        with client.override({"half": flag if isinstance(flag, str) else "no such variant"}):
            client.enabled("half", context)
errors = sum(client.status.errors.values())
"""


def test_a01_wrong_use_is_answered_with_the_default_and_counted(stage: Stage) -> None:
    app = stage.running()
    app.may_lose = {"invalid_context", "unencodable", "too_large"}
    stage.server.definitions = stage.server.collector = answers.hang
    told = app.do(WRONG_USE)
    assert all(row == [False, True, "d", 7, True, True] for row in told)
    assert app.do("answer = sum(client.status.errors.values())") >= 4 * len(told)


@pytest.mark.parametrize("fault", [answers.hang, answers.drip_body, answers.endless, answers.reset])
def test_a02_callers_wait_for_nothing_while_everything_behind_them_fails(stage: Stage, fault: Script) -> None:
    large = {f"f{number}": {"description": "x" * 900, "default": "on"} for number in range(1000)}  # 1 MB
    stage.server.publish(large)
    app = stage.running(pause_s=0.001, config={"deadline_s": 1, "max_pending": 2000})
    app.may_lose = {"overflow"}
    stage.server.definitions = answers.first(3, fault, stage.server.serve)
    stage.server.collector = fault
    for _ in range(6):
        time.sleep(0.4)
        stage.server.publish(large)
    app.ask("rest")
    check_waits(app.ask("report")["waits"], longest_s=0.05)


#: What is in documents of many megabytes.
LARGE: dict[str, dict[str, Any]] = {
    "many flags": {f"f{number}": {"description": "x" * 900, "default": "on"} for number in range(9000)},
    "a large value": {"x": {"variants": {"a": {f"k{n}": [n, 1] for n in range(200_000)}, "b": 0}, "default": "a"}},
    "a large target": {"x": {"targets": {"on": [f"user-{number}" for number in range(300_000)]}}},
}


@pytest.mark.full
@pytest.mark.parametrize("what", LARGE)
def test_a02_a_refresh_of_many_megabytes_does_not_hold_the_interpreter(stage: Stage, what: str) -> None:
    large = LARGE[what]
    stage.server.publish(large)
    app = stage.start(pause_s=0.001, config={"deadline_s": 5})
    app.do("client.wait_ready(10)")
    app.run()
    for number in range(4):
        app.sees(stage.server.publish({**large, "other": {"description": str(number), "default": "on"}}))
    app.ask("rest")
    waits = app.ask("report")["waits"]
    assert waits["enabled"]["worst_s"] < 0.05, waits
    assert waits["enabled"]["p999_s"] < 0.02, waits


COLD = """
import time
from typing import Any
decision = client.decide("half", "u")
otherwise = client.enabled("half", "u", default=True)
answer = [decision.enabled, decision.reason, decision.error_code, otherwise, client.status.ready]
began_s = time.monotonic()
answer.append(client.wait_ready(0.2))
waited_s = time.monotonic() - began_s
"""


@pytest.mark.parametrize("how", ["refused", "hang", "drip", "500"])
def test_a03_without_definitions_the_default_is_answered_at_once(stage: Stage, how: str) -> None:
    server = stage.server
    if how == "refused":
        server.refuse()
    faults = {"hang": answers.hang, "drip": answers.drip_body, "500": answers.status(500), "refused": answers.hang}
    server.definitions = server.collector = faults[how]
    app = stage.start(config={"deadline_s": 3})
    # A constructor that waited for the network would have waited for three seconds.
    assert app.do("answer = made_in_s") < 2
    assert app.do(COLD) == [False, "ERROR", "PROVIDER_NOT_READY", True, False, False]
    assert app.do("answer = waited_s") < 2
    app.run()
    time.sleep(0.3)
    server.heal()
    if how == "refused":
        server.accept()
    app.sees(server.number)


SWAPS = """
import threading, json
def document(number):
    value = f"v{number}"
    flag = {"variants": {"now": value, "off": "off"}, "off": "off", "default": "off"}
    asks = {"when": [{"segment": "all"}], "serve": "now"}
    flags = {"parent": {**flag, "variants": {f"p{number}": value, "off": "off"}, "default": f"p{number}"}}
    for depth in range(4):
        needs = {"flag": "parent", "variants": [f"p{number}"]}
        flags[f"c{depth}"] = {**flag, "rules": [asks], "prerequisites": [needs]}
    segments = {"all": {"any": [{"attribute": "v", "op": "in", "values": [value, "any"]}]}}
    return json.dumps({"schema": 1, "version": value, "segments": segments, "flags": flags}).encode()

class Changing:
    name, dialect, local, number = "changing", "native", True, 0
    def fetch(self, validator, *, deadline_s, max_bytes):
        self.number += 1
        return flagkit.sources.Fetched(document(self.number))
    def close(self): ...
    def after_fork(self): ...

source = Changing()
other = flagkit.Client(source=source, config=flagkit.Config(poll_interval_s=3600))
mixed, newest, stopping = [], [0] * 8, threading.Event()

def ask(index):
    last = 0
    while not stopping.is_set():
        for depth in range(4):
            # On only if parent, rule and segment are of one document: they all name its number.
            value = other.value(f"c{depth}", {"unit": "u", "v": "any"}, default="none")
            if not value.startswith("v") or int(value[1:]) < last:
                mixed.append(value)
            else:
                last = int(value[1:])
    newest[index] = last

sys.setswitchinterval(1e-4)
threads = [threading.Thread(target=ask, args=(index,)) for index in range(8)]
[thread.start() for thread in threads]
while source.number < swaps:
    other._feed.poller.poll()
stopping.set()
[thread.join() for thread in threads]
sys.setswitchinterval(0.005)
answer = [mixed[:5], newest, other.close()]
"""


@pytest.mark.parametrize("swaps", [200, pytest.param(1000, marks=pytest.mark.full)])
def test_a04_one_answer_is_of_one_document_while_many_follow_each_other(stage: Stage, swaps: int) -> None:
    app = stage.start(callers=0)
    mixed, newest, _ = app.do(SWAPS, swaps=swaps)
    assert mixed == []
    assert min(newest) > 0.9 * swaps, "and every thread went along with them"


PLACES = {
    "del": """
class Dying:
    def __del__(self):
        client.enabled("half", f"d{next(numbering)}")
        track("died")
for _ in range(COUNT):
    Dying()
""",
    "garbage collector": """
import gc
class Ring:
    def __init__(self): self.me = self
    def __del__(self): track("died")
def collected(phase, info): client.enabled("half", "gc"); track("collected")
gc.callbacks.append(collected)
for _ in range(COUNT // 100):
    [Ring() for _ in range(10)]
    gc.collect(0)
gc.callbacks.remove(collected)
gc.collect()
""",
    "signal handler": """
import signal, time
def rang(*_):
    client.enabled("half", f"s{next(numbering)}")
    track("rang")
signal.signal(signal.SIGALRM, rang)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
ends_s = time.monotonic() + COUNT / 5000
while time.monotonic() < ends_s:
    track("main")
    client.enabled("half", "main")
    client.status
signal.setitimer(signal.ITIMER_REAL, 0)
""",
    "logging handler": """
import logging
class Told(logging.Handler):
    def emit(self, record):
        client.enabled("half", "log")
        track("logged")
        client.status
handler = Told()
logging.getLogger("flagkit").addHandler(handler)
for _ in range(COUNT):
    track("main")
client.flush(5)
logging.getLogger("flagkit").removeHandler(handler)
""",
    "fork hook": """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
hook = [True]
os.register_at_fork(before=lambda: track("before"), after_in_parent=lambda: track("parent"))
os.register_at_fork(after_in_child=lambda: client.enabled("half", "u"))
for _ in range(20):
    child = os.fork()
    if not child:
        client.track("order", "child", value=1)
        os._exit(client.flush(5))
    assert os.waitpid(child, 0)[1] == 0
""",
}


@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=pytest.mark.full)])
@pytest.mark.parametrize("place", PLACES)
def test_a05_asking_and_tracking_where_any_lock_may_be_held_ends(stage: Stage, place: str, count: int) -> None:
    app = stage.running(config={"max_pending": 1000, "deadline_s": 0.3})
    app.may_lose = {"overflow"}
    app.alone = place != "fork hook"
    stage.server.collector = answers.first(3, answers.status(500), stage.server.store)
    app.do(PLACES[place], COUNT=count)
    app.until(lambda: app.status["sink"]["state"] == "ok")


def test_a05_a_logging_handler_that_raises_costs_a_line_and_nothing_else(stage: Stage) -> None:
    app = stage.running()
    app.do("""
class Broken(logging.Handler):
    def emit(self, record):
        raise OSError("no space left on device")
logging.getLogger("flagkit").addHandler(Broken())
""")
    stage.server.definitions = stage.server.collector = answers.status(500)
    app.until(lambda: app.source["failures"] >= 2 and app.status["sink"]["failures"] >= 2)
    stage.server.heal()
    app.sees(stage.server.publish({"bad": {"default": "purple"}}))
    app.until(lambda: app.status["sink"]["state"] == "ok")


HANDLERS = """
import threading
told = {name: 0 for name in ("raises", "exits", "blocks", "uses", "hears")}
leave = threading.Event()
def raises(details):
    told["raises"] += 1
    raise RuntimeError("the application's own affair")
def exits(details):
    told["exits"] += 1
    raise SystemExit
def blocks(details):
    told["blocks"] += 1
    if blocking:
        leave.wait(60)
def uses(details):
    told["uses"] += 1
    client.flush(1)
    client.refresh(0.2)
    client.wait_ready(0.2)
    client.enabled("half", "u")
    client.add_handler("stale", uses)
    client.status
def hears(details):
    told["hears"] += 1
for handler in (raises, exits, blocks, uses, hears):
    client.add_handler("configuration_changed", handler)
"""


def test_a06_handlers_that_raise_and_use_the_client_cost_nobody_anything(stage: Stage) -> None:
    app = stage.running()
    app.do(HANDLERS, blocking=False)
    for times in (1, 2):
        app.sees(stage.server.publish())
        app.until(lambda times=times: app.do("answer = min(told.values())") >= times)
    assert "a handler of configuration_changed raised" in (app.directory / "app.log").read_text()


def test_a06_a_handler_that_blocks_holds_up_nothing_but_handlers(stage: Stage) -> None:
    app = stage.running()
    app.do(HANDLERS, blocking=True)
    app.sees(stage.server.publish())
    app.until(lambda: app.do('answer = told["blocks"]') == 1)
    for _ in range(3):
        app.sees(stage.server.publish())
    recorded = app.account["recorded"]
    app.until(lambda: app.account["delivered"] >= recorded)
    assert app.do('answer = told["hears"]') == 0
    time.sleep(1)  # what takes longer is named in the log
    app.do("blocking = False; leave.set()")
    app.until(lambda: app.do('answer = told["hears"]') == 1)  # of three changes at once
    assert "a handler of configuration_changed took" in (app.directory / "app.log").read_text()


def test_a06_a_handler_may_close_the_client(stage: Stage) -> None:
    app = stage.running(callers=0)
    app.do("""
import threading, time
closed = threading.Event()
def closes(details):
    began_s = time.monotonic()
    kept.extend([client.flush(2), client.close(2), client.close(2), time.monotonic() - began_s])
    closed.set()
kept = []
client.add_handler("configuration_changed", closes)
for _ in range(100):
    track()
""")
    stage.server.publish()
    app.until(lambda: app.do("answer = closed.is_set()"))
    left, left_at_close, again, took_s = app.do("answer = kept")
    assert (left, left_at_close, again) == (0, 0, 0)
    assert took_s < 3  # deadlocked, it would have taken as long as it may
    app.may_lose = {"closed"}
    app.do("track()")
    assert app.account["lost"] == {"closed": 1}
