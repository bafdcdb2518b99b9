"""The table of docs/benchmark.md: every dialect beside native flags, and beside its backend's own Python SDK.

``python -m tests.bench.dialects`` prints it, in half a minute; columns of SDKs that are not installed (extra ``peers``)
stay empty. The flags are those of the tests ``test_<dialect>_cost.py``. All calls of a row are timed in turns, and the
best of many counts, because other programs use the machine as well.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from typing import Any, NamedTuple

from flagkit.dialects.growthbook_hash import bucketing
from tests.bench import test_flagd_cost, test_growthbook_cost, test_posthog_cost, test_unleash_cost
from tests.bench.turns import best_ns

Json = dict[str, Any]
Ask = Callable[[], object]
#: A flag's key -> the question to the SDK.
Peer = Callable[[str], Ask]
UNIT, ATTRIBUTES = "user-7", dict(test_posthog_cost.CONTEXT.attributes)
ROUNDS = 100


class Row(NamedTuple):
    """ns a call; ``hash_ns`` is the cost of a hash that is not murmur3, 0 where it is, or where none is asked for."""

    dialect: str
    flag: str
    native_ns: float
    own_ns: float
    hash_ns: float
    sdk_ns: float | None

    @property
    def ratio(self) -> float:
        """What it costs beside the native flag, its hash apart. At most 2 is the aim."""
        return (self.own_ns - self.hash_ns) / self.native_ns

    @property
    def times(self) -> float | None:
        """How many times faster than the SDK. At least 5 is the aim; 2 for GrowthBook, whose hash is all Python."""
        return None if self.sdk_ns is None else self.sdk_ns / self.own_ns


# -- the backends' own SDKs ------------------------------------------------------------------------------------------


def posthog() -> Peer:
    import posthog

    logging.getLogger("posthog").setLevel(logging.CRITICAL + 1)
    client = posthog.Posthog("phc_test", host="http://127.0.0.1:9", send=False)
    document = test_posthog_cost.document()
    client.feature_flags = document["flags"]
    client.group_type_mapping, client.cohorts = document["group_type_mapping"], document["cohorts"]
    settings = {"person_properties": ATTRIBUTES, "only_evaluate_locally": True, "send_feature_flag_events": False}
    return lambda flag: lambda: client.get_feature_flag_result(flag, UNIT, **settings)


def growthbook() -> Peer:
    from growthbook import GrowthBook

    made = copy.deepcopy(test_growthbook_cost.document())
    client = GrowthBook(
        attributes={"id": UNIT, **ATTRIBUTES}, features=made["features"], savedGroups=made["savedGroups"]
    )
    return lambda flag: lambda: client.eval_feature(flag)


def flagd() -> Peer:
    from openfeature.contrib.tools.flagd.core import FlagdCore
    from openfeature.evaluation_context import EvaluationContext

    logging.getLogger("openfeature.contrib").setLevel(logging.CRITICAL + 1)
    core, context = FlagdCore(), EvaluationContext(UNIT, ATTRIBUTES)
    core.set_flags(json.dumps({"flags": test_flagd_cost.FLAGD}))

    def ask(flag: str) -> Ask:
        if flag == "multivariate":
            return lambda: core.resolve_object_value(flag, {}, context)
        return lambda: core.resolve_boolean_value(flag, False, context)

    return ask


def unleash() -> Peer:
    from UnleashClient import UnleashClient
    from UnleashClient.cache import FileCache

    cache = FileCache("flagkit-bench")
    cache.bootstrap_from_dict(test_unleash_cost.document())
    client = UnleashClient(
        "http://127.0.0.1:1/api", "flagkit-bench", cache=cache, disable_metrics=True, disable_registration=True
    )
    client.initialize_client(fetch_toggles=False)
    context = {"userId": UNIT, "properties": test_unleash_cost.PROPERTIES}
    return lambda flag: (
        (lambda: client.get_variant(flag, context))
        if flag == "multivariate"
        else (lambda: client.is_enabled(flag, context))
    )


# -- measuring -------------------------------------------------------------------------------------------------------


def hashed(dialect: str, flag: str) -> Ask | None:
    """What the flag is hashed by, if that is not murmur3."""
    if dialect == "posthog" and flag != "simple":
        text = f"{flag}.{UNIT}".encode()
        return lambda: hashlib.sha1(text).digest()
    key = UNIT.encode()
    bucket = bucketing(flag, 2) if dialect == "growthbook" and flag in test_growthbook_cost.HASHED else None
    return None if bucket is None else lambda: bucket(key)


def rows() -> Iterator[Row]:
    module: Any
    for dialect, module, make in (
        ("unleash", test_unleash_cost, unleash),
        ("posthog", test_posthog_cost, posthog),
        ("flagd", test_flagd_cost, None),  # its SDK draws by the formula of version 3
        ("flagd-v3", test_flagd_cost, flagd),
        ("growthbook", test_growthbook_cost, growthbook),
    ):
        peer: Peer | None = None
        with suppress(ImportError):
            peer = make() if make is not None else None
        own, native = module.client(dialect), module.client("native")
        context = module.CONTEXT
        for flag in module.KINDS:

            def ask(client: Any, flag: str = flag, context: Any = context) -> Ask:
                return lambda: client.decide(flag, context)

            hashing = hashed(dialect, flag)
            calls = [ask(native), ask(own)]
            calls += [hashing] if hashing is not None else []
            calls += [peer(flag)] if peer is not None else []
            found = best_ns(*calls, rounds=ROUNDS)
            hash_ns = found[2] if hashing is not None else 0.0
            yield Row(dialect, flag, found[0], found[1], hash_ns, found[-1] if peer is not None else None)


def table() -> Iterator[str]:
    yield "| dialect | flag | native | in the dialect | its hash | ratio | its SDK | times faster |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows():
        hashed = f"{row.hash_ns:,.0f} ns" if row.hash_ns else ""
        sdk = "" if row.sdk_ns is None or row.times is None else f"{row.sdk_ns:,.0f} ns | {row.times:.1f}"
        yield (
            f"| {row.dialect} | {row.flag} | {row.native_ns:,.0f} ns | {row.own_ns:,.0f} ns | {hashed} "
            f"| {row.ratio:.2f} | {sdk or ' | '} |"
        )


def main() -> None:
    warnings.simplefilter("ignore")  # of the SDKs
    for line in table():
        print(line, flush=True)
    for package in ("UnleashClient", "posthog", "openfeature-flagd-core", "growthbook"):
        with suppress(ImportError):
            print(f"{package} {version(package)}", end="; ")
    print(f"Python {platform.python_version()}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
