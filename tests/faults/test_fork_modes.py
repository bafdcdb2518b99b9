"""A client just works however its processes come about: flags change in each, and what each records arrives once."""

from __future__ import annotations

import importlib.util
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import KEY, Service
from tests.faults import fleet
from tests.faults.fleet import PATIENCE_S, Fleet, Lines, Told, Web


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    turn(service, on=True)
    service.start()
    yield service
    service.kill()


def turn(service: Service, *, on: bool) -> None:
    service.publish({"checkout": {"default": "on" if on else "off"}}, "on" if on else "off")


@contextmanager
def running(kind: type[Fleet], command: list[str], service: Service, settings: dict[str, Any]) -> Iterator[Fleet]:
    server = kind(command, {"url": service.url, "key": KEY, **settings}, service.path.parent)
    try:
        yield server
    except BaseException:
        print(server.log.read_text()[-4000:])
        raise
    finally:
        server.kill()


def asked(server: Fleet, path: str, count: int, enough: Callable[[dict[int, list[Told]]], bool]) -> list[Told]:
    """What the processes said until both had said enough."""
    stop_s = time.monotonic() + PATIENCE_S
    told: dict[int, list[Told]] = {}
    while len(told) < 2 or not enough(told):
        assert time.monotonic() < stop_s, (told, server.ask("/status"), server.ask("/status"))
        answer = server.ask(path, count)
        told.setdefault(answer["pid"], []).append(answer)
    return [answer for answers in told.values() for answer in answers]


def stored(service: Service, table: str) -> Counter[str]:
    return Counter(unit for (unit,) in service.query(f"SELECT unit FROM {table} WHERE unit NOT LIKE '%-seen'"))


def just_works(kind: type[Fleet], command: list[str], service: Service, *, used: bool, by_itself: bool = True) -> None:
    """Everything that must hold.

    used: the client is started and used where it is imported, and delivers often; else what is left waits for the end.
    by_itself: what was recorded at import arrives too.
    """
    settings = {"used": used, "flush_interval_s": 0.2 if used else 600}
    with running(kind, command, service, settings) as server:
        assert all(answer["ready"] for answer in asked(server, "/ready", 0, lambda told: True))
        # Nothing new is recorded in here, so that it is not the events that wake anybody.
        asked(server, "/seen", 0, lambda told: all(answers[-1]["enabled"] for answers in told.values()))
        turn(service, on=False)
        asked(server, "/seen", 0, lambda told: not any(answers[-1]["enabled"] for answers in told.values()))

        told = asked(server, "/record", 10, lambda told: all(len(answers) >= 3 for answers in told.values()))
        units = Counter(unit for answer in told for unit in answer["units"])
        if by_itself:
            units += Counter({unit for answer in told for unit in answer["at_import"]})
        if used:
            asked(server, "/", 0, lambda _: stored(service, "metrics") == units)
        last = asked(server, "/flush", 1, lambda told: True)
        assert all(answer["left"] == 0 for answer in last), last
        last += asked(server, "/record", 1, lambda told: True)  # and at once the end
        server.stop()

        units += Counter(unit for answer in last for unit in answer["units"])
        assert set(units.values()) == {1}
        assert stored(service, "exposures") == units
        assert stored(service, "metrics") == units
        met = {(answer["seen"], variant) for answer in told for variant in ("on", "off")}
        assert met <= set(service.query("SELECT unit, variant FROM exposures"))
        # Those that may come twice are about the unit that both processes met, on and off: one id each, stored once.
        [(duplicates, redelivered)] = service.query("SELECT SUM(duplicates), SUM(deliveries - 1) FROM batches")
        assert (duplicates <= 2, redelivered) == (True, 0)


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [module for module in modules if not importlib.util.find_spec(module)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}; see the extra faults")


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn", "preloaded"])
def test_multiprocessing(service: Service, method: str) -> None:
    just_works(Lines, fleet.program("children", method), service, used=True)


@pytest.mark.full
@needs("gunicorn")
@pytest.mark.parametrize("used", [True, False], ids=["used", "unused"])
@pytest.mark.parametrize("preload", [["--preload"], []], ids=["preload", "no-preload"])
@pytest.mark.parametrize("kind", ["sync", "gthread", pytest.param("gevent", marks=needs("gevent"))])
def test_gunicorn(service: Service, kind: str, preload: list[str], used: bool) -> None:
    threads = ["--threads", "2"] if kind == "gthread" else []
    just_works(Web, fleet.gunicorn(kind, *threads, *preload), service, used=used)


@pytest.mark.full
@needs("gevent")
@pytest.mark.parametrize("when", ["before", "after"])
def test_gevent_patched_before_or_after_the_application_is_imported_and_used(service: Service, when: str) -> None:
    just_works(Web, fleet.program("greenlets", when, "{descriptor}"), service, used=True)


@pytest.mark.full
@needs("celery")
@pytest.mark.parametrize("used", [True, False], ids=["used", "unused"])
def test_celery_prefork(service: Service, used: bool) -> None:
    just_works(Lines, fleet.program("tasks"), service, used=used)


UWSGI = {
    "master": [],
    "enable-threads": ["--enable-threads"],
    "two-threads": ["--threads", "2"],
    "fork-hooks": ["--enable-threads", "--py-call-uwsgi-fork-hooks"],
    "lazy-apps": ["--lazy-apps"],
    "lazy-apps-enable-threads": ["--lazy-apps", "--enable-threads"],
}


@pytest.mark.full
@pytest.mark.skipif(not fleet.UWSGI.exists(), reason="not installed: uwsgi; see the extra faults")
@pytest.mark.parametrize("used", [True, False], ids=["used", "unused"])
@pytest.mark.parametrize("mode", UWSGI)
def test_uwsgi(service: Service, mode: str, used: bool) -> None:
    just_works(Web, fleet.uwsgi(*UWSGI[mode]), service, used=used, by_itself="lazy-apps" in mode)
