"""Signed overrides of flags whose definitions cannot say that they take them: in the formats of other backends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Make
from documents import Json
from fakes import WALL_MS

from flagkit import Client, Config, sinks, sources
from flagkit.errors import ConfigError
from flagkit.production.overrides import Claim, Keys

KEYS = f"k1:{'s' * 32}"


def token(flags: dict[str, str]) -> str:
    return Keys(KEYS).sign(Claim("id-1", "production", flags, "ann", WALL_MS, WALL_MS + 3_600_000))


#: Dialect -> a document with the flags ``f`` and ``other``, both off, and what ``f`` answers when it is on.
DOCUMENTS: dict[str, tuple[Json, str]] = {
    "unleash": (
        {"version": 2, "features": [{"name": name, "enabled": False, "strategies": []} for name in ("f", "other")]},
        "on",
    ),
    "flagd": (
        {
            "flags": {
                name: {"state": "ENABLED", "variants": {"yes": True, "no": False}, "defaultVariant": "no"}
                for name in ("f", "other")
            }
        },
        "yes",
    ),
    "growthbook": ({"features": {name: {"defaultValue": False} for name in ("f", "other")}}, "on"),
    "posthog": (
        {
            "flags": [
                {"key": name, "active": True, "filters": {"groups": [{"properties": [], "rollout_percentage": 0}]}}
                for name in ("f", "other")
            ]
        },
        "true",
    ),
}


@pytest.fixture(params=DOCUMENTS)
def backend(request: pytest.FixtureRequest) -> tuple[sources.Static, str]:
    document, on = DOCUMENTS[request.param]
    return sources.Static(json.dumps(document), dialect=request.param), on


def taking(make: Make, source: sources.Static, flags: Any) -> Client:
    client = make(source=source, config=Config(environment="production"))
    client.allow_overrides(KEYS, flags=flags)
    return client


def test_flags_of_any_backend_take_them_when_the_application_names_them(
    make: Make, backend: tuple[sources.Static, str], sink: sinks.Memory
) -> None:
    source, on = backend
    client = taking(make, source, ["f"])
    assert (client.status.problems, on in client._feed.snapshot.definitions.flags["f"].variants) == ((), True)
    with client.scope("ann", override=token({"f": on})) as granted:
        assert granted == {"f": on}
        assert (client.enabled("f"), client.decide("f").reason) == (True, "OVERRIDE")
    with client.scope("bob", override=token({"f": on})):
        assert not client.enabled("f")
    assert not client.enabled("f", "ann")
    assert client.status.overrides == {"accepted": 1, "other_unit": 1}
    client.flush()
    assert on not in [event.get("feature_flag.result.variant") for event in sink.events]


@pytest.mark.parametrize(
    ("flags", "word"),
    [({"other": "on"}, "not_overridable"), ({"f": "mauve"}, "unknown_variant"), ({"nope": "on"}, "unknown_flag")],
)
def test_what_the_application_did_not_name_is_refused(
    make: Make, backend: tuple[sources.Static, str], flags: dict[str, str], word: str
) -> None:
    client = taking(make, backend[0], {"f", "nope"})
    with client.scope("ann", override=token(flags)) as granted:
        assert granted == {}
        assert not client.enabled("f")
    assert client.status.overrides == {word: 1}


@pytest.mark.parametrize("flags", ["f", [""], [1], [None]])
def test_what_names_no_flags_is_refused(make: Make, backend: tuple[sources.Static, str], flags: Any) -> None:
    with pytest.raises(ConfigError, match=r"flags.*a collection of the keys of flags"):
        taking(make, backend[0], flags)


def test_native_definitions_say_so_themselves_and_may_take_it_back(make: Make) -> None:
    client = make({"f": {}}, environment="production")
    with pytest.raises(ConfigError, match="overridable"):
        client.allow_overrides(KEYS, flags=["f"])
    assert not client.takes_overrides
