"""What a client is made of, and what it says of wrong arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flagkit import Client, Config, ConfigError, sinks, sources

Json = dict[str, Any]
Make = Callable[..., Client]


STATIC = sources.Static({"schema": 1, "flags": {}})
KEY = "sesame-open-up"


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("url", {}),
        ("url", {"key": KEY}),
        ("url", {"url": "https://flags.example.com", "source": STATIC}),
        ("url", {"url": 7}),
        ("url", {"url": "flags.example.com"}),
        ("url", {"url": "ftp://flags.example.com"}),
        ("url", {"url": "http://flags.example.com"}),
        ("url", {"url": f"https://user:{KEY}@flags.example.com"}),
        ("url", {"url": f"https://flags.example.com?key={KEY}"}),
        ("url", {"url": f"https://user:{KEY}@flags.example.com", "source": STATIC}),
        ("key", {"source": STATIC, "key": KEY}),
        ("key", {"url": "https://flags.example.com", "key": KEY + "\n"}),
        ("key", {"url": "https://flags.example.com", "key": KEY.encode()}),
        ("key", {"url": "https://flags.example.com", "key": ""}),
        ("source", {"source": "flags.json"}),
        ("source", {"source": {"schema": 1, "flags": {}}}),
        ("source", {"source": sources.Static}),
        ("source", {"source": sources.Http}),
        ("sink", {"source": STATIC, "sink": "log"}),
        ("sink", {"source": STATIC, "sink": False}),
        ("sink", {"source": STATIC, "sink": sinks.Memory}),
        ("sink", {"source": STATIC, "sink": sinks.Log}),
        ("config", {"source": STATIC, "config": {"poll_interval_s": 5}}),
        ("config", {"source": STATIC, "config": Config}),
        ("clock", {"source": STATIC, "clock": 7}),
        ("dialect", {"source": sources.Static({}, dialect="toggles")}),
    ],
)
def test_a_wrong_argument_is_named_and_no_key_is_shown(field: str, arguments: Json) -> None:
    with pytest.raises(ConfigError, match=f"^{field}: got ") as caught:
        Client(**arguments)
    assert caught.value.field == field
    assert KEY not in str(caught.value)
    assert "expected" in str(caught.value)


def test_neither_a_client_nor_its_status_shows_the_key() -> None:
    client = Client("https://flags.example.com", key=KEY)
    assert KEY not in repr(client) + repr(client.status) + repr(vars(client))
    client.close()


def test_source_and_sink_follow_from_the_url_unless_they_are_given() -> None:
    client = Client("https://flags.example.com", key=KEY)
    assert (client.status.source.name, client.status.sink is not None) == (  # type: ignore[union-attr]
        "https://flags.example.com/v1/definitions",
        True,
    )
    silent = Client("https://flags.example.com", sink=None)
    assert silent.status.sink is None
    assert Client(source=STATIC).status.sink is None
