"""Rows E1 to E11: forks, clocks, frozen processes, threads that die or cannot start, and the limits of the system."""

from __future__ import annotations

import signal
import time

import pytest

from tests.faults import answers
from tests.faults.stage import Stage
from tests.unit.loopback import GOOD_CERTIFICATE, server_tls

#: Children that report through files in the application's folder: what each returned, by its process id.
FORKING = """
import json, os, warnings
warnings.simplefilter("ignore", DeprecationWarning)
def fork(work):
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        told = work()
        with open(os.path.join(SETTINGS["directory"], f"child-{os.getpid()}.json"), "w") as file:
            json.dump(told, file)
        status = 0
    finally:
        os._exit(status)
def joined(child, within_s=20.0):
    import time
    ends_s = time.monotonic() + within_s
    while time.monotonic() < ends_s:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, status
            with open(os.path.join(SETTINGS["directory"], f"child-{child}.json")) as file:
                return json.load(file)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")
def account(of=None):
    told = (of or client).status.account
    return [told.recorded, told.delivered, told.pending, dict(told.lost)]
"""


def test_e01_a_forked_child_serves_and_refreshes_and_delivers_by_itself(stage: Stage) -> None:
    app = stage.running(prelude=FORKING)
    before = stage.server.number
    app.do("""
import time
def work():
    first = client.value("number", "child", default=-1)
    for number in range(50):
        client.track("child", "child", value=number)
    ends_s = time.monotonic() + 10
    while client.value("number", "child", default=-1) == first and time.monotonic() < ends_s:
        time.sleep(0.01)
    return [first, client.value("number", "child", default=-1), client.flush(5), account()]
child = fork(work)
""")
    newest = stage.server.publish()
    first, last, left, account = app.do("answer = joined(child)")
    assert (first, last, left) == (before, newest, 0)
    assert account[0] == account[1] >= 50
    assert account[2:] == [0, {}]
    arrived = [event for event in stage.server.stored.values() if event.get("name") == "child"]
    assert sorted(event["value"] for event in arrived) == list(range(50))
    app.sees(newest)
    app.alone = False


def test_e01_a_forked_child_that_only_asks_refreshes(stage: Stage) -> None:
    app = stage.running(prelude=FORKING, callers=0)
    app.do("""
import time
seen = client.value("number", "child", default=-1)
def work():
    ends_s = time.monotonic() + 10
    while client.value("number", "child", default=-1) == seen and time.monotonic() < ends_s:
        time.sleep(0.01)
    return client.value("number", "child", default=-1)
child = fork(work)
""")
    assert app.do("answer = joined(child)", newest=(newest := stage.server.publish())) == newest
    app.alone = False


@pytest.mark.parametrize("forks", [30, pytest.param(300, marks=pytest.mark.full)])
def test_e02_of_a_storm_of_forks_no_child_hangs_and_every_event_arrives(stage: Stage, forks: int) -> None:
    app = stage.running(prelude=FORKING, pause_s=0.001)
    app.alone = False
    app.do(
        """
def work():
    import gc
    seen = client.value("number", "child", default=-1)
    for number in range(5):
        client.track("child", str(os.getpid()), value=number)
    return [seen, client.flush(10)]
answer = []
for number in range(forks):
    answer.append(joined(fork(work)))
assert all(seen >= 1 and left == 0 for seen, left in answer), answer
""",
        forks=forks,
    )
    arrived = [event for event in stage.server.stored.values() if event.get("name") == "child"]
    assert len(arrived) == 5 * forks


HOLDER = """
import threading, logging
locks = []
def find(thing, depth=0, seen=set()):
    if id(thing) in seen or depth > 6 or not type(thing).__module__.startswith("flagkit"):
        return
    seen.add(id(thing))
    members = list(getattr(thing, "__dict__", {}).values())
    members += [getattr(thing, slot, None) for kind in type(thing).__mro__ for slot in getattr(kind, "__slots__", ())]
    for member in members:
        for each in member.values() if isinstance(member, dict) else [member]:
            if type(each).__name__ in ("lock", "RLock"):
                locks.append(each)
            find(each, depth + 1)
find(client)
from flagkit.runtime.process import process
find(process)
locks.append(logging.getLogger().handlers[0].lock)
holding, forked = threading.Event(), threading.Event()
def hold():
    held = [lock for lock in locks if lock.acquire(timeout=2)]
    holding.set()
    forked.wait(20)
    for lock in held:
        lock.release()
threading.Thread(target=hold, daemon=True).start()
holding.wait(20)
def work():
    client.enabled("half", "child")
    client.track("child", "child", value=1)
    return client.flush(10)
child = fork(work)
forked.set()
answer = [len(locks), joined(child)]
"""


def test_e02_a_fork_while_every_lock_is_held_leaves_a_child_that_works(stage: Stage) -> None:
    app = stage.running(prelude=FORKING)
    app.alone = False
    locks, left = app.do(HOLDER)
    assert locks >= 5
    assert left == 0
    assert [event for event in stage.server.stored.values() if event.get("name") == "child"]


def test_e03_a_host_that_runs_no_fork_hooks_is_noticed(stage: Stage) -> None:
    app = stage.running(prelude=FORKING + "hooks, os.register_at_fork = os.register_at_fork, lambda **_: None\n")
    app.alone = False
    before = stage.server.number
    app.do("""
import time
def work():
    for number in range(50):
        client.track("child", "child", value=number)
    seen = [client.value("number", "child", default=-1)]
    ends_s = time.monotonic() + 10
    while client.value("number", "child", default=-1) == seen[0] and time.monotonic() < ends_s:
        client.track("child", "child", value=50)
        time.sleep(0.02)
    return [*seen, client.value("number", "child", default=-1), client.flush(5)]
child = fork(work)
""")
    newest = stage.server.publish()
    assert app.do("answer = joined(child)") == [before, newest, 0]
    arrived = {event["value"] for event in stage.server.stored.values() if event.get("name") == "child"}
    assert arrived == set(range(51))


def test_e04_a_child_never_speaks_on_its_parents_tls_connection(stage: Stage) -> None:
    tls, ca_file = server_tls(stage.directory, GOOD_CERTIFICATE)
    secure = stage.serve(tls)
    secure.publish()
    app = stage.running(server=secure, ca_file=ca_file, prelude=FORKING, config={"deadline_s": 10})
    app.alone = False
    failures = app.source["failures"], app.status["sink"]["failures"]
    app.do("""
def work():
    client.enabled("half", "child")
    client.track("child", "child", value=1)
    left = client.flush(5)
    client.close(5)
    return [left, client.status.source.failures + client.status.sink.failures]
answer = [joined(fork(work)) for _ in range(5)]
assert answer == [[0, 0]] * 5, answer
""")
    app.sees(secure.publish())
    assert (app.source["failures"], app.status["sink"]["failures"]) == failures, "the parent's were not disturbed"


def test_e04_a_child_draws_jitter_and_ids_of_its_own(stage: Stage) -> None:
    app = stage.running(prelude=FORKING)
    app.alone = False
    drawn = app.do("""
import random
random.seed(7)
def work():
    from flagkit.runtime.backoff import SYSTEM_RANDOM
    from flagkit.events import Batch
    return [SYSTEM_RANDOM.random(), Batch.seal(("{}",), {}).id]
answer = [joined(child) for child in [fork(work) for _ in range(5)]]
""")
    assert len({number for number, _ in drawn}) == len({batch for _, batch in drawn}) == 5


STEPPED = """
import time
shift_s, wall, wall_ns = 0, time.time, time.time_ns
time.time = lambda: wall() + shift_s
time.time_ns = lambda: wall_ns() + int(shift_s * 1e9)
"""


@pytest.mark.parametrize("step_s", [86_400, -86_400, -3600, 10 * 365 * 86_400])
def test_e05_a_step_of_the_wall_clock_changes_no_rhythm(stage: Stage, step_s: int) -> None:
    app = stage.running(prelude=STEPPED)
    app.may_repeat = True  # what is recorded between the step and its being noticed
    slow = stage.server.serve
    stage.server.definitions = lambda call: (call.pause(0.05), slow(call))[1]
    app.do("shift_s = step_s", step_s=step_s)  # most likely while a poll is under way
    polls, began_s = len(stage.server.polls()), time.monotonic()
    time.sleep(1)
    polled = len(stage.server.polls()) - polls
    assert polled <= 5 + 10 * (time.monotonic() - began_s), "ten a second, and no burst"
    app.sees(stage.server.publish())
    recorded = app.account["recorded"]
    app.until(lambda: app.account["delivered"] >= recorded)


@pytest.mark.parametrize("stopped_s", [1.5, pytest.param(60, marks=pytest.mark.full)])
def test_e06_a_process_that_was_frozen_polls_once_and_not_in_a_burst(stage: Stage, stopped_s: float) -> None:
    app = stage.running()
    app.process.send_signal(signal.SIGSTOP)
    time.sleep(stopped_s)
    newest = stage.server.publish()
    asked = len(stage.server.polls())
    thawed_s = time.monotonic()
    app.process.send_signal(signal.SIGCONT)
    app.sees(newest)
    time.sleep(0.5)
    polls = len(stage.server.polls()) - asked
    assert polls <= 4 + 12 * (time.monotonic() - thawed_s)


def test_e06_a_connection_that_was_idle_while_the_machine_slept_is_not_used_again(stage: Stage) -> None:
    asleep = """
import time
slept_s, gettime = 0.0, time.clock_gettime
time.clock_gettime = lambda clock: gettime(clock) + (slept_s if clock == time.CLOCK_BOOTTIME else 0.0)
"""
    app = stage.running(callers=0, prelude=asleep, config={"flush_interval_s": 3600})
    app.until(lambda: len(stage.server.polls()) > 3)
    assert len({asked.connection for asked in stage.server.polls()}) < len(stage.server.polls())
    app.do("slept_s = 31.0")
    before = len(stage.server.polls())
    app.until(lambda: len(stage.server.polls()) > before + 2)
    polls = stage.server.polls()
    assert polls[-1].connection > polls[before - 1].connection


def test_e07_gevent_patched_before_the_import_just_works(stage: Stage) -> None:
    pytest.importorskip("gevent", reason="not installed: gevent; see the extra faults")
    patched = "import warnings\nfrom gevent import monkey\nmonkey.patch_all(sys=False)\n"
    app = stage.start(prelude=patched, callers=0)
    app.do("""
import gevent
assert client.wait_ready(10)
def ask(number):
    client.enabled("half", f"green-{number}")
    track("order", f"green-{number}")
gevent.joinall([gevent.spawn(ask, number) for number in range(100)], raise_error=True)
answer = client.flush(5)
""")
    newest = stage.server.publish()
    app.do(
        """
import time
ends_s = time.monotonic() + 10
while client.status.version != str(newest):
    assert time.monotonic() < ends_s, client.status
    gevent.sleep(0.01)
""",
        newest=newest,
    )


def test_e07_coroutines_ask_and_track_and_wait_for_nothing(stage: Stage) -> None:
    app = stage.running(config={"deadline_s": 1})
    stage.server.definitions = stage.server.collector = answers.hang
    worst_s, control_s = app.do("""
import asyncio, time
async def ask(number):
    worst_s = 0.0
    for turn in range(20):
        began_s = time.perf_counter()
        client.enabled("half", f"co-{number}")
        track("order", f"co-{number}")
        worst_s = max(worst_s, time.perf_counter() - began_s)
        await asyncio.sleep(0.01)
    return worst_s
async def main():
    return max(await asyncio.gather(*map(ask, range(50))))
answer = [asyncio.run(main()), max(waits["control"].taken)]
""")
    assert worst_s < max(0.25, 2 * control_s)


DYING = """
deaths = []
def dies(method):
    def dying(*given, **more):
        if deaths:
            raise deaths.pop()
        return method(*given, **more)
    return dying
"""


@pytest.mark.parametrize("death", ["SystemExit", "MemoryError", "KeyboardInterrupt", "RecursionError", "GeneratorExit"])
@pytest.mark.parametrize("whose", ["poller", "delivery"])
def test_e08_a_thread_that_dies_is_replaced(stage: Stage, whose: str, death: str) -> None:
    app = stage.running(prelude=DYING)
    app.do("""
import flagkit.runtime.worker as worker
worker._PAUSE_S = 0.2  # read when a client is made; the one that is there has its own
for each in (client._feed.worker, client._recording._worker):
    each._backoff._interval_s = 0.2
""")
    method = "client._feed.poller._source.fetch" if whose == "poller" else "client._recording._delivery._buffer.listen"
    owner, name = method.rsplit(".", 1)
    if whose == "poller":
        app.do(f"{owner}.{name} = dies({owner}.{name})")
    else:
        app.do(f"import flagkit.runtime.buffer as b; b.Buffer.{name} = dies(b.Buffer.{name})")
    app.do(f"deaths.append({death}())")
    app.until(lambda: app.status["worker_faults"] == 1)
    app.sees(stage.server.publish())
    recorded = app.account["recorded"]
    app.until(lambda: app.account["delivered"] >= recorded)
    app.do("raised.clear()")
    app.may_fault = True


def test_e08_threads_that_keep_dying_are_replaced_more_and_more_rarely(stage: Stage) -> None:
    app = stage.running(prelude=DYING)
    app.do("source = client._feed.poller._source; source.fetch = dies(source.fetch); deaths += [SystemExit()] * 1000")
    time.sleep(4)
    faults = app.status["worker_faults"]
    assert 1 <= faults <= 5  # 40 polls would have been due
    app.do("deaths.clear(); raised.clear()")
    app.sees(stage.server.publish(), within_s=30)
    app.may_fault = True


NO_THREADS = """
import threading
can_start, start = False, threading.Thread.start
def starting(thread):
    if not can_start and thread.name.startswith("flagkit"):
        raise RuntimeError("can't start new thread")
    return start(thread)
threading.Thread.start = starting
"""


def test_e09_where_no_thread_can_be_started_questions_are_answered_and_events_kept(stage: Stage) -> None:
    app = stage.start(prelude=NO_THREADS)
    app.run()
    time.sleep(0.5)
    assert not app.status["ready"]
    assert app.account["pending"] > 0
    assert app.do("answer = client.flush(5)") == 0, "it works without a thread"
    app.do("can_start = True")
    app.sees(stage.server.number)


GENERATIONS = """
import gc, os, threading, weakref
def held():
    gc.collect()
    return threading.active_count(), len(os.listdir("/proc/self/fd"))
def one(close):
    mine = made(poll_interval_s=60)
    mine.enabled("half", "u")
    if close:
        mine.close(1)
    return weakref.ref(mine)
def settled(most):
    import time
    ends_s = time.monotonic() + 20
    while (now := held()) > most and time.monotonic() < ends_s:
        time.sleep(0.05)
    return now
client.close()
one(True); one(False)
before = settled((1, 1 << 20))
left = [one(close) for _ in range(count)]
answer = [before, settled(before), sum(ref() is not None for ref in left)]
from flagkit.runtime.process import process
answer.append(len(process.residents))
"""


@pytest.mark.parametrize("close", [True, False], ids=["closed", "dropped"])
@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.full)])
def test_e10_clients_that_come_and_go_leave_nothing_behind(stage: Stage, close: bool, count: int) -> None:
    app = stage.start(callers=0)
    app.alone = False
    before, after, alive, residents = app.do(GENERATIONS, close=close, count=count)
    assert after <= before, "threads, descriptors"
    assert alive == 0
    assert residents <= 1


def test_e11_a_small_recursion_limit_raises_nothing_in_callers(stage: Stage) -> None:
    app = stage.running()
    told = app.do("""
def deep(left):
    if left:
        return deep(left - 1)
    return [client.enabled("half", "deep"), client.value("number", "deep", default=-1), track("order", "deep")]
import inspect
room = sys.getrecursionlimit() - len(inspect.stack()) - 10
answer = []
for spare in range(0, 120, 3):
    try:
        deep(max(1, room - spare))
    except RecursionError as error:
        frames = traceback.extract_tb(error.__traceback__)
        answer.append([spare, frames[-1].filename])
""")
    app.do("raised.clear()")
    app.alone = False  # an event may have been numbered and never tracked
    app.may_lose = {"unencodable"}
    # Where not even a call of flagkit's fits, the call itself fails; once inside, nothing does.
    assert not [told for told in told if told[0] > 60], told


def test_e11_without_descriptors_the_poll_fails_like_any_other(stage: Stage) -> None:
    app = stage.running()
    app.do("""
import resource
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 4, limits[1]))
""")
    stage.server.cut()
    failures = app.source["failures"]
    app.until(lambda: app.source["failures"] >= failures + 3)
    assert app.source["state"] == "failing"
    app.do("resource.setrlimit(resource.RLIMIT_NOFILE, limits)")
    app.sees(stage.server.publish())


def test_e11_near_the_memory_limit_nothing_is_raised_in_callers(stage: Stage) -> None:
    app = stage.running()
    app.do("""
import resource
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (size + (4 << 20), limits[1]))
""")
    stage.server.definitions = answers.body(b'{"schema": 2, "flags": {"a": "' + b"x" * (9 << 20) + b'"}}')
    app.until(lambda: app.status["source"]["failures"] + app.status["worker_faults"] >= 2)
    app.do("resource.setrlimit(resource.RLIMIT_AS, limits)")
    app.may_fault = app.may_fail = True
    stage.server.heal()
    app.sees(stage.server.publish())
