"""The example applications of frameworks, under the servers they are made for: an override is seen by its bearer alone.

Requests at the same time, by the hundred, are kept apart under threads, an event loop and greenlets.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from flagkit.integrations.overrides import sign
from tests.e2e.test_examples import EXAMPLES, Server, run

KEYS = f"k1:{'s' * 32}"
VISITS = """\
ann without an override: the old checkout (may be cached)
ann with ann's override: the new checkout (private, no-store)
ann without an override: the old checkout (may be cached)
bo with ann's override: the old checkout (may be cached)
"""
GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:0", "--chdir", str(EXAMPLES))
UVICORN = ("-m", "uvicorn", "--port", "0", "--app-dir", str(EXAMPLES))


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("flask_app", f"under gunicorn:\n{VISITS}"),
        ("django_app", f"under gunicorn:\n{VISITS}under uvicorn:\n{VISITS}"),
        ("fastapi_app", f"under uvicorn:\n{VISITS}"),
        ("celery_app", VISITS.replace(" (may be cached)", "").replace(" (private, no-store)", "")),
    ],
)
def test_a_request_with_an_override_sees_the_candidate_and_the_next_does_not(name: str, printed: str) -> None:
    assert run(name) == printed


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    started: list[Server] = []
    yield started
    for server in started:
        server.stop()


def override(unit: str) -> str:
    return sign(KEYS, {"new-checkout": "on"}, environment="production", unit=unit).token


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ((*GUNICORN, "--threads", "8", "flask_app:app"), "Listening at:"),
        pytest.param((*GUNICORN, "-k", "gevent", "flask_app:app"), "Listening at:", marks=pytest.mark.full),
        ((*GUNICORN, "--threads", "8", "django_app:wsgi"), "Listening at:"),
        ((*UVICORN, "--lifespan", "off", "django_app:asgi"), "running on"),
        ((*UVICORN, "fastapi_app:app"), "running on"),
    ],
    ids=["flask under threads", "flask under gevent", "django under threads", "django under asyncio", "fastapi"],
)
def test_requests_at_the_same_time_are_kept_apart(
    server: tuple[str, ...], said: str, servers: list[Server], tmp_path: Path
) -> None:
    if "gevent" in server and importlib.util.find_spec("gevent") is None:
        pytest.skip("not installed: gevent; see the extra faults")
    path = os.pathsep.join([str(EXAMPLES), str(EXAMPLES.parent)])
    settings = {"FLAGKIT_OVERRIDE_KEYS": KEYS, "PYTHONPATH": path}
    started = Server(sys.executable, *server, directory=tmp_path, said=said, **settings)
    servers.append(started)
    mine = override("user-1")

    def ask(number: int) -> tuple[int, str]:
        """Every second request shows the override, of which every second is by its owner."""
        headers = {"X-User": f"user-{number % 4}"} | ({"Flagkit-Override": mine} if number % 2 else {})
        return number % 4, requests.get(started.url, headers=headers, timeout=20).text

    old, new = "the old checkout", "the new checkout"
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(200))) == {(0, old), (1, new), (2, old), (3, old)}
