"""What the parts cost: ``pytest tests/bench --benchmark-enable``. Without that option each case runs once, as a test.

The last test always measures: one ratio with a wide margin, so that an accident on the hot path is seen everywhere.
"""

from __future__ import annotations

import json
import timeit
from collections.abc import Callable, Iterator
from itertools import count, cycle
from typing import Any

import pytest
from mmh3 import mmh3_32_uintdigest

from flagkit import Client, Config, Context, scope, sources
from flagkit.core.snapshot import Snapshot
from flagkit.dialects import native
from flagkit.events import Batch, Delivered

Json = dict[str, Any]
CONDITIONS: list[Json] = [
    {"attribute": "country", "op": "in", "values": ["SE", "NO", "DK", "FI"]},
    {"attribute": "plan", "op": "in", "values": ["pro"]},
    {"attribute": "email", "op": "ends_with", "values": ["@example.com"]},
    {"attribute": "app_version", "op": "semver_greater_or_equal", "values": ["2.3.0"]},
]
SHARES = [{"variant": name, "weight": 25} for name in "abcd"]
FLAGS: dict[str, Json] = {
    "simple": {"default": "on"},
    "rollout": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]},
    "targeting": {"rules": [{"when": CONDITIONS, "rollout": {"percent": 25}, "serve": "on"}]},
    "multivariate": {
        "variants": {name: {"colour": name, "size": 7} for name in "abcd"},
        "off": "a",
        "rules": [{"split": SHARES}],
    },
    "segment": {"rules": [{"when": [{"segment": "members"}], "serve": "on"}]},
}
KINDS = list(FLAGS)
SEGMENTS = {"members": {"units": [f"user-{number}" for number in range(1000)]}}
ATTRIBUTES = {"country": "SE", "plan": "pro", "email": "anna@example.com", "app_version": "2.4.1", "age": 30}
CONTEXTS = [Context(f"user-{number}", ATTRIBUTES) for number in range(512)]


def lines(flags: int, edited: str = "") -> bytes:
    """A document of ``flags`` flags of all kinds, one a line."""
    written = (f'"flag-{number}":{json.dumps(FLAGS[KINDS[number % 5]])}' for number in range(flags))
    changed = [*written, f'"edited":{json.dumps({"owner": edited or "nobody"})}']
    return b'{"schema":1,"segments":%s,"flags":{\n%s\n}}' % (
        json.dumps(SEGMENTS).encode(),
        ",\n".join(changed).encode(),
    )


class Counter:
    """A collector that takes everything."""

    name = "counter"

    def send(self, batch: Batch, *, deadline_s: float) -> Delivered:
        return Delivered()

    def close(self) -> None: ...
    def after_fork(self) -> None: ...


def made(sink: Any = None) -> Client:
    client = Client(
        source=sources.Static({"schema": 1, "segments": SEGMENTS, "flags": FLAGS}),
        sink=sink,
        config=Config(max_pending=1_000_000, max_exposed_units=10_000_000),
    )
    client.start()
    return client


@pytest.fixture(scope="module")
def client() -> Client:
    return made()


@pytest.fixture
def recording() -> Iterator[Client]:
    client = made(Counter())
    yield client
    client.close()


@pytest.mark.parametrize("flag", KINDS)
def test_enabled(benchmark: Any, client: Client, flag: str) -> None:
    context = CONTEXTS[7]
    benchmark(client.enabled, flag, context)


@pytest.mark.parametrize("flag", KINDS)
def test_enabled_with_a_context_made_for_the_call(benchmark: Any, client: Client, flag: str) -> None:
    benchmark(lambda: client.enabled(flag, Context("user-7", ATTRIBUTES)))


def test_decide_and_read_the_value(benchmark: Any, client: Client) -> None:
    context = CONTEXTS[7]
    benchmark(lambda: client.decide("multivariate", context).value)


def test_value(benchmark: Any, client: Client) -> None:
    context = CONTEXTS[7]
    benchmark(lambda: client.value("multivariate", context, default={}))


def test_enabled_in_a_scope(benchmark: Any, client: Client) -> None:
    with scope("user-7"):
        benchmark(client.enabled, "rollout")


def test_making_a_context(benchmark: Any) -> None:
    benchmark(Context, "user-7", ATTRIBUTES)


def test_all_of_five_hundred_flags(benchmark: Any) -> None:
    snapshot = Snapshot(native.parse(lines(499)).definitions, now_ms=lambda: 0)
    assert len(snapshot.decide_all(CONTEXTS[7])) == 500
    benchmark(snapshot.decide_all, CONTEXTS[7])


def test_an_exposure_of_a_unit_seen_before(benchmark: Any, recording: Client) -> None:
    context = CONTEXTS[7]
    benchmark(recording.enabled, "rollout", context)


def test_an_exposure_of_a_new_unit(benchmark: Any, recording: Client) -> None:
    contexts = map(Context, count())
    benchmark.pedantic(lambda: recording.enabled("rollout", next(contexts)), rounds=100, iterations=200)


def test_a_metric_event(benchmark: Any, recording: Client) -> None:
    context = CONTEXTS[7]
    benchmark.pedantic(
        lambda: recording.track("purchase", context, value=9.5, currency="SEK"), rounds=50, iterations=200
    )


def test_an_explanation(benchmark: Any, client: Client) -> None:
    benchmark(client.explain, "targeting", CONTEXTS[7])


def test_reading_five_thousand_flags(benchmark: Any) -> None:
    data = lines(5000)
    assert benchmark.pedantic(native.parse, (data,), rounds=5).problems == ()


def test_reading_five_thousand_flags_as_bare_json(benchmark: Any) -> None:
    data = lines(5000)
    benchmark.pedantic(json.loads, (data,), rounds=5)


def test_refreshing_one_flag_of_five_thousand(benchmark: Any) -> None:
    before = native.parse(lines(5000)).definitions
    snapshot = Snapshot(before, now_ms=lambda: 0)
    snapshot.decide_all(CONTEXTS[7])
    edited = cycle([lines(5000, "anna"), lines(5000, "bertil")])

    def refresh() -> Snapshot:
        return snapshot.following(native.parse(next(edited), before).definitions)

    after = benchmark.pedantic(refresh, rounds=10)
    assert after.definitions.flags["flag-7"] is before.flags["flag-7"]


def best_s(call: Callable[[], Any]) -> float:
    """Seconds of one call at the best of many attempts: what it costs when nothing else runs."""
    return min(timeit.repeat(call, number=500, repeat=40)) / 500


def test_a_rollout_costs_a_small_multiple_of_the_hash_it_needs(client: Client) -> None:
    context, prefix, key = CONTEXTS[7], b"rollout:", b"user-7"
    limit = 1 << 31
    enabled = client.enabled

    def bare() -> bool:
        return mmh3_32_uintdigest(prefix + key) < limit

    def asked() -> bool:
        return enabled("rollout", context)

    assert bare() == asked()
    assert best_s(asked) < 6 * best_s(bare)


GATED: dict[str, Json] = {
    "plain": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]},
    "guarded": {"guard": {}, "rules": [{"rollout": {"percent": 50}, "serve": "on"}]},
}


@pytest.fixture(scope="module")
def gated() -> Iterator[Client]:
    client = Client(source=sources.Static({"schema": 1, "flags": GATED}))
    client.start()
    yield client
    client.close()


def nothing(user: Context) -> None: ...


def calls(client: Client, way: str, flag: str) -> Callable[[], None]:
    """One call of a function that does nothing, by a new user each time: bare, decorated, or in a with block."""
    users = cycle(CONTEXTS)
    if way == "bare":
        return lambda: nothing(next(users))
    if way == "decorator":
        function = client.gate(flag, unit_from="user", otherwise=nothing)(nothing)
        return lambda: function(next(users))

    def block() -> None:
        with client.gate(flag, next(users)) as gate:
            if gate.on:
                nothing(CONTEXTS[0])

    return block


@pytest.mark.parametrize("way", ["bare", "decorator", "with"])
@pytest.mark.parametrize("flag", GATED)
def test_a_call_through_a_gate(benchmark: Any, gated: Client, way: str, flag: str) -> None:
    benchmark(calls(gated, way, flag))


#: Way and flag -> what it may cost beside a bare call, in questions asked of the same client. A quarter more than
#: 1, 1.5, 2.5 and 3 microseconds are where a question takes a quarter of one.
COSTS = {("decorator", "plain"): 5.0, ("with", "plain"): 7.5, ("decorator", "guarded"): 12.5, ("with", "guarded"): 15.0}


@pytest.mark.parametrize(("way", "flag"), COSTS)
def test_a_gate_costs_a_small_multiple_of_the_question_it_asks(gated: Client, way: str, flag: str) -> None:
    users = cycle(CONTEXTS)
    call = calls(gated, way, flag)
    for _ in range(20_000):  # what few would do in a second: from here on a sample of units is compared
        call()
    asked = best_s(lambda: gated.enabled("plain", next(users)))
    bare = best_s(calls(gated, "bare", flag))
    cost = (best_s(call) - bare) / asked
    print(f"\n{way}, {flag}: {cost:.1f} questions")
    assert cost < COSTS[way, flag]
