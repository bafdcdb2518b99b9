"""Rows D1 to D8 and D12 to D17: whatever the collector does, each event is stored once or accounted for."""

from __future__ import annotations

import signal
import time
from collections import Counter
from itertools import pairwise

import pytest

from tests.faults import answers
from tests.faults.stage import App, Stage, check_sum
from tests.faults.test_definitions import SOON, http_date
from tests.unit.loopback import Call, Script

#: What a fault at the collector leaves to the other verbs: definitions are as they should be.
BUSY = {"track_every": 2}


def outage(stage: Stage, app: App, fault: Script, attempts: int = 3) -> None:
    """The collector fails for some attempts, then recovers; nothing is lost, and what was left arrives soon."""
    server = stage.server
    failures = app.status["sink"]["failures"]
    server.collector = fault
    app.until(lambda: app.status["sink"]["failures"] >= failures + attempts)
    assert app.account["pending"] > 0
    server.heal()
    recorded = app.account["recorded"]
    app.until(lambda: app.account["delivered"] >= recorded)
    assert app.account["lost"] == {}
    assert app.status["sink"]["state"] == "ok"


def batches_once(stage: Stage) -> None:
    """What was sent again was the same batch: same id, same events."""
    sent: dict[str, list[str]] = {}
    for batch in stage.server.batches:
        assert sent.setdefault(batch.id, batch.ids) == batch.ids


@pytest.mark.parametrize("code", [500, 502, 503, 504, 429, 408, 425])
def test_d01_a_collector_that_fails_loses_nothing(stage: Stage, code: int) -> None:
    outage(stage, stage.running(**BUSY), answers.status(code))
    batches_once(stage)


@pytest.mark.parametrize(
    "fault", [answers.reset, answers.hang_up, answers.raw(b"\0\0")], ids=["reset", "hangs up", "no HTTP"]
)
def test_d01_a_connection_that_breaks_loses_nothing(stage: Stage, fault: Script) -> None:
    outage(stage, stage.running(**BUSY), fault)
    batches_once(stage)


def test_d01_a_collector_that_refuses_connections_loses_nothing(stage: Stage) -> None:
    app = stage.running(**BUSY)
    stage.server.refuse()
    app.until(lambda: app.status["sink"]["failures"] >= 4)
    stage.server.accept()
    recorded = app.account["recorded"]
    app.until(lambda: app.account["delivered"] >= recorded)
    batches_once(stage)


@pytest.mark.full
@pytest.mark.parametrize("how", ["refused", "503"])
def test_d01_an_outage_of_a_minute_loses_none_of_1200_events(stage: Stage, how: str) -> None:
    app = stage.running(callers=1, pause_s=0.05, track_every=1, config={"poll_interval_s": 1, "flush_interval_s": 1})
    if how == "refused":
        stage.server.refuse()
    else:
        stage.server.collector = answers.status(503)
    time.sleep(60)
    assert app.account["recorded"] > 1000
    stage.server.heal()
    if how == "refused":
        stage.server.accept()
    recorded = app.account["recorded"]
    assert app.until(lambda: app.account["delivered"] >= recorded, within_s=15) < 15
    batches_once(stage)


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_d02_a_collector_that_asks_for_time_gets_it_from_all_batches(stage: Stage, code: int, form: str) -> None:
    app = stage.running(**BUSY)
    refused: list[float] = []

    def refuse(call: Call) -> None:
        refused.append(time.monotonic())
        wish = "1" if form == "seconds" else http_date(3)
        answers.status(code, Retry_After=wish, Date=http_date(0))(call)

    stage.server.collector = answers.first(1, refuse, stage.server.store)
    app.until(lambda: refused and len(stage.server.posts()) and stage.server.posts()[-1].at_s > refused[0] + 0.001)
    after = [post.at_s for post in stage.server.posts() if post.at_s > refused[0]]
    assert after[0] - refused[0] >= 1.0
    app.until(lambda: app.status["sink"]["state"] == "ok")
    batches_once(stage)


def test_d03_a_collector_that_hangs_costs_the_deadline_and_no_event(stage: Stage) -> None:
    app = stage.running(**BUSY)
    outage(stage, app, answers.hang)
    batches_once(stage)
    assert app.status["sink"]["last_error"] == "deadline"


@pytest.mark.parametrize("drip", [answers.drip_head, answers.drip_body])
def test_d03_a_collector_that_drips_its_answer_costs_the_deadline_and_no_event(stage: Stage, drip: Script) -> None:
    app = stage.running(**BUSY)
    outage(stage, app, drip, attempts=2)
    assert app.status["sink"]["last_error"] == "deadline"


@pytest.mark.parametrize("code", [401, 403])
def test_d04_a_key_that_is_refused_for_a_while_loses_nothing(stage: Stage, code: int) -> None:
    app = stage.running(prelude=SOON, **BUSY)
    stage.server.collector = answers.status(code)
    app.until(lambda: app.status["sink"]["state"] == "auth_failed")
    outage(stage, app, answers.status(code))
    batches_once(stage)


NO_ACK: dict[str, Script] = {
    "a page": answers.portal,
    "204": answers.status(204),
    "nothing": answers.body(b""),
    "JSON of somebody else": answers.body(b'{"ok": true}'),
    "another batch": answers.acknowledged_to_another,
    "a list": answers.body(b"[]"),
    "half": answers.cut_short(lambda: b'{"batch_id": "0"}'),
    "bad gzip": answers.body(b"{}", Content_Encoding="gzip"),
    "201": answers.status(201),
    "304": answers.status(304),
    "100 for ever": answers.informed,
}


@pytest.mark.parametrize("what", NO_ACK)
def test_d05_what_is_no_acknowledgement_is_not_a_delivery(stage: Stage, what: str) -> None:
    outage(stage, stage.running(**BUSY), NO_ACK[what], attempts=2)
    batches_once(stage)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_d05_a_redirected_post_is_not_followed_and_not_a_delivery(stage: Stage, code: int) -> None:
    elsewhere = stage.serve()
    app = stage.running(**BUSY)
    outage(stage, app, answers.redirect(f"{elsewhere.url}/v1/events", code), attempts=2)
    outage(stage, app, answers.redirect("/v2/events", code), attempts=2)
    assert elsewhere.asked == []
    assert {post.path for post in stage.server.posts()} == {"/v1/events"}
    batches_once(stage)


@pytest.mark.parametrize("code", [400, 422])
def test_d06_a_bad_event_is_lost_alone(stage: Stage, code: int) -> None:
    app = stage.running(callers=0, config={"batch_size": 200, "flush_interval_s": 0.5})
    app.may_lose = {f"http_{code}"}
    stage.server.collector = answers.picky(stage.server, lambda event: event["properties"].get("poison") is True, code)
    app.do("for number in range(200): track(poison=number == 77)")
    app.until(lambda: app.account["pending"] == 0)
    assert app.account["lost"] == {f"http_{code}": 1}
    assert stage.server.numbers == Counter(set(range(200)) - {77})
    assert len(stage.server.batches) <= 2 * 8 + 4
    app.do("track()")  # which brings the report of the loss
    app.until(lambda: stage.server.dropped == {f"http_{code}": 1})


def test_d07_a_batch_that_is_too_large_is_halved_until_it_is_taken(stage: Stage) -> None:
    app = stage.running(callers=0, config={"batch_size": 200, "flush_interval_s": 0.2})
    stage.server.collector = answers.narrow(stage.server, 8_000)
    app.do("for number in range(200): track()")
    app.until(lambda: app.account["pending"] == 0)
    assert app.account["lost"] == {}
    refused = len(stage.server.batches) - len(stage.server.kept)
    app.do("for number in range(200): track()")
    app.until(lambda: app.account["pending"] == 0)
    assert len(stage.server.batches) - len(stage.server.kept) <= refused + 3, "the limit is remembered"


def test_d07_an_event_that_is_too_large_all_by_itself_is_lost_alone(stage: Stage) -> None:
    app = stage.running(callers=0)
    app.may_lose = {"too_large"}
    stage.server.collector = answers.narrow(stage.server, 8_000)
    app.do('for number in range(20): track(text="x" * (9_000 if number == 7 else 10))')
    app.until(lambda: app.account["pending"] == 0)
    assert app.account["lost"] == {"too_large": 1}
    assert stage.server.numbers == Counter(set(range(20)) - {7})


def test_d08_an_answer_that_is_lost_duplicates_nothing(stage: Stage) -> None:
    app = stage.running(**BUSY)
    outage(stage, app, answers.stored_unsaid(stage.server))
    batches_once(stage)
    again = Counter(batch.id for batch in stage.server.batches)
    assert max(again.values()) > 1, "it was sent again, by the same id"
    keys = [post.headers["idempotency-key"] for post in stage.server.posts()]
    assert keys == [batch.id for batch in stage.server.batches]


CLOSING = """
import time
for number in range(1000):
    track()
began_s = time.monotonic()
left = client.close(0.7)
took_s = time.monotonic() - began_s
again = client.close()
track()
answer = [left, took_s, again]
"""


@pytest.mark.parametrize("how", ["hangs", "refuses", "fails"])
def test_d12_closing_ends_in_time_and_says_what_is_left(stage: Stage, how: str) -> None:
    app = stage.running(callers=0, config={"flush_interval_s": 3600, "deadline_s": 5, "batch_size": 100})
    app.may_keep, app.may_lose = None, {"closed"}
    if how == "refuses":
        stage.server.refuse()
    else:
        stage.server.collector = answers.hang if how == "hangs" else answers.status(500)
    left, took_s, again = app.do(CLOSING)
    assert (left, again) == (1000, 0)
    assert took_s < 2.5  # 0.7 s, and a busy machine
    account = app.account
    assert (account["recorded"], account["pending"], account["lost"]) == (1001, 1000, {"closed": 1})


@pytest.mark.parametrize("how", ["hangs", "fails", "works"])
def test_d11_the_exit_takes_no_longer_than_it_may(stage: Stage, how: str) -> None:
    """Without a folder for its state the application keeps nothing of what it could not deliver."""
    app = stage.running(callers=0, config={"flush_interval_s": 3600, "deadline_s": 5, "exit_deadline_s": 1})
    if how != "works":
        stage.server.collector = answers.hang if how == "hangs" else answers.status(500)
    app.do("for number in range(1000): track()")
    began_s = time.monotonic()
    assert app.end() == 0, app.words()
    assert time.monotonic() - began_s < 4  # one second for the flush, the rest for a busy interpreter
    assert len(stage.server.numbers) == (1000 if how == "works" else 0)


def test_d13_no_signal_handler_is_installed(stage: Stage) -> None:
    app = stage.running()
    handlers = app.do("""
import signal
nobodys = (None, signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)  # the last is Python's own
answer = [name for name in signal.valid_signals() if signal.getsignal(name) not in nobodys]
""")
    assert handlers == []


def test_d13_an_application_that_exits_at_sigterm_delivers_what_it_recorded(stage: Stage) -> None:
    app = stage.running(callers=0, config={"flush_interval_s": 3600})
    app.do("import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))")
    app.do("for number in range(300): track()")
    app.process.send_signal(signal.SIGTERM)
    assert app.process.wait(10) == 0
    assert stage.server.numbers == Counter(range(300))


def test_d13_a_process_that_is_terminated_loses_what_it_had_not_sent_yet_and_no_more(stage: Stage) -> None:
    app = stage.running(callers=0)
    app.do("for number in range(300): track()")
    app.until(lambda: app.account["pending"] == 0)
    app.process.send_signal(signal.SIGTERM)
    assert app.process.wait(10) == -signal.SIGTERM
    assert stage.server.numbers == Counter(range(300))


def test_d14_an_overload_of_ten_times_is_dropped_and_counted_and_the_collector_is_told(stage: Stage) -> None:
    app = stage.running(callers=0, config={"max_pending": 10_000, "deadline_s": 1})
    app.may_lose = {"overflow"}
    stage.server.collector = answers.hang
    mean_s, grown_kb = app.do("""
import gc, time
client.track("order", "u", value=1, n=-1)
gc.collect(); forget_peak(); before_kb = memory_kb()
began_s = time.thread_time()
for number in range(100_000):
    client.track("order", "u", value=1, n=number)
answer = [(time.thread_time() - began_s) / 100_000, memory_kb() - before_kb]
""")
    assert mean_s < 40e-6  # half of it where nobody else is at work
    assert grown_kb < 16_000
    account = app.account
    assert account["pending"] == 10_000
    assert account["lost"] == {"overflow": 100_001 - account["delivered"] - 10_000}
    stage.server.heal()
    app.until(lambda: app.account["pending"] == 0)
    app.do('client.track("order", "u", value=1, n=-2)')
    app.until(lambda: app.account["pending"] == 0)
    assert stage.server.dropped == account["lost"]
    # What came first was kept, and in order.
    assert stage.server.numbers == Counter([*range(-1, 9_999), -2])


WEIRD = """
import uuid
loop = []
loop.append(loop)
deep = []
for _ in range(100_000):
    deep = [deep]
class Hostile:
    def __str__(self): raise RuntimeError
    __repr__ = __eq__ = __hash__ = __len__ = __iter__ = __str__
class Liar(str):
    def __str__(self): raise RuntimeError
    encode = __str__
odd = (float("nan"), float("inf"), 1j)
for bad in (*odd, b"bytes", {1, 2}, loop, deep, "\\ud800", "x" * 1_000_000, Hostile(), object()):
    client.track("order", "unit", value=1, bad=bad)
    client.track("order", "unit", value=bad)
    client.track(bad, "unit")
    track()
answer = client.status.account.recorded
"""


def test_d15_an_event_that_cannot_be_sent_is_lost_alone(stage: Stage) -> None:
    app = stage.running(callers=0)
    app.may_lose = {"unencodable", "too_large"}
    recorded = app.do(WEIRD)
    app.until(lambda: app.account["pending"] == 0)
    account = app.account
    assert recorded == 44
    assert stage.server.numbers == Counter(range(11))
    check_sum(account)
    assert sum(account["lost"].values()) >= 30, account  # all but what is JSON after all


def test_d16_a_slow_collector_gets_one_full_batch_at_a_time_in_order(stage: Stage) -> None:
    app = stage.running(callers=0, config={"batch_size": 100, "deadline_s": 5})
    stage.server.collector = answers.slow(stage.server, 0.2)
    app.do("""
import time
for number in range(600):
    track()
    time.sleep(0.001)
""")
    app.until(lambda: app.account["pending"] == 0)
    server = stage.server
    assert server.most_at_once <= 2
    order = [number for batch in server.batches for number in batch.numbers]
    assert order == sorted(order)
    assert max(len(batch.ids) for batch in server.batches) == 100
    assert all(one.at_s <= other.at_s for one, other in pairwise(server.batches))


def test_d17_an_outage_is_met_with_fewer_and_fewer_requests(stage: Stage) -> None:
    app = stage.running(config={"flush_interval_s": 1.0}, **BUSY)
    asked = len(stage.server.posts())
    stage.server.collector = answers.status(500)
    time.sleep(8)
    assert len(stage.server.posts()) - asked <= 7  # one a second without backing off; 3 or 4 are to be expected
    stage.server.heal()
    app.until(lambda: app.status["sink"]["state"] == "ok")
