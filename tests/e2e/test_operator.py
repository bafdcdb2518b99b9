"""An operator at a running service: real processes, the real command, what clients get and what is written down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from processes import ADMIN_KEY, KEY, Service, working

ROOT = Path(__file__).parents[2]
RAMP = {"rules": [{"name": "canary", "rollout": {"percent": 100}, "serve": "on"}]}
FLAGS = {f"flag-{n}": RAMP for n in range(4)} | {"items": {"variants": {"few": 1, "many": 9}, "off": "few"}}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(tmp_path)
    running.publish(FLAGS, "1")
    running.start()
    yield running
    running.kill()


def flagkit(*arguments: str, key: str = ADMIN_KEY) -> subprocess.CompletedProcess[str]:
    """The command, as a process of its own."""
    keys = {"FLAGKIT_ADMIN_KEY": key, "FLAGKIT_READ_KEY": key, "FLAGKIT_KEY": key}
    command = [sys.executable, "-m", "flagkit", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT, env={**os.environ, **keys}
    )


def order(service: Service, *arguments: str, by: str = "ann", reason: str = "because", **options: Any) -> Any:
    return flagkit(*arguments, "--url", service.url, "--by", by, "--reason", reason, **options)


def done(service: Service, *arguments: str, **options: Any) -> str:
    result = order(service, *arguments, **options)
    assert (result.returncode, result.stderr) == (0, "")
    return str(result.stdout)


def test_a_kill_reaches_a_client_and_a_revert_takes_it_back(service: Service) -> None:
    with working(service.url) as (worker,):
        worker.do("ready", 10)
        assert worker.do("variants", "flag-0", ["u"]) == ["on"]
        said = done(service, "kill", "flag-0", by="ann", reason="it burns")
        assert said.startswith("1. flag-0: enabled -> disabled; served as number 2; undo: flagkit revert flag-0 --url ")
        worker.do("until", "flag-0", "u", "off", 10)
        undo = said.partition("undo: flagkit ")[2].split()
        assert flagkit(*undo, "--by", "ann", "--reason", "fixed").returncode == 0
        worker.do("until", "flag-0", "u", "on", 10)


def test_every_kind_of_order_is_in_the_file_the_history_and_the_summary(service: Service) -> None:
    done(service, "ramp", "flag-1", "12.5")
    done(service, "set", "items", "many", by="bo")
    done(service, "revert", "flag-1", by="cy")
    flags = json.loads(service.path.read_text())["flags"]
    assert flags["flag-1"] == RAMP
    assert flags["items"]["rules"] == [{"name": "everyone", "serve": "many"}]
    told = json.loads(flagkit("history", "--url", service.url, "--json", key=KEY).stdout)
    assert [(each["change"], each["by"], each["flag"]) for each in told] == [
        (1, "ann", "flag-1"),
        (2, "bo", "items"),
        (3, "cy", "flag-1"),
    ]
    by_file = json.loads(flagkit("history", "--file", str(service.path), "--json").stdout)
    assert [each["number"] for each in by_file] == [1, 2, 3]
    assert len({each["request"] for each in by_file}) == 3
    summary = flagkit("summary", service.url, key=KEY).stdout
    assert 'rule "canary": 100 % -> 12.5 %' in summary
    assert service.query("SELECT change, who, why, flag FROM changes WHERE change = 2") == [
        (2, "bo", "because", "items")
    ]


def test_orders_at_the_file_and_at_the_service_make_one_history(service: Service) -> None:
    done(service, "kill", "flag-0")
    flagkit("ramp", "flag-1", "50", "--file", str(service.path), "--by", "bo", "--reason", "by file")
    by_hand = json.loads(service.path.read_text())["flags"]
    wait_for_number(service, 3)
    service.publish({**by_hand, "items": {**by_hand["items"], "off": "many"}}, "1")
    wait_for_number(service, 4)
    done(service, "revert", "flag-1", by="cy")
    rows = service.query("SELECT change, who, flag, command FROM changes ORDER BY rowid")
    assert rows == [
        (1, "ann", "flag-0", "kill"),
        (2, "bo", "flag-1", "ramp"),
        (None, None, "items", "edit"),
        (3, "cy", "flag-1", "revert"),
    ]


@pytest.mark.parametrize(("key", "status"), [(KEY, 403), ("nonsense", 401)])
def test_only_the_admin_key_changes_flags(service: Service, key: str, status: int) -> None:
    before = service.path.read_bytes()
    result = order(service, "kill", "flag-0", key=key)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"Error: {service.url}: not the admin key (give it in FLAGKIT_ADMIN_KEY)\n"
    assert service.path.read_bytes() == before
    headers = {"Authorization": f"Bearer {key}"}
    assert requests.post(f"{service.url}/v1/changes", "{}", headers=headers, timeout=10).status_code == status


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("kill", "flag-9"), "no flag 'flag-9'; did you mean"),
        (("ramp", "items", "5"), "items: no rule has a rollout"),
        (("set", "items", "all"), "no variant of items 'all'"),
        (("revert",), "there is no history"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(service: Service, arguments: tuple[str, ...], message: str) -> None:
    result = order(service, *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_operators_at_the_same_time_lose_nothing(service: Service) -> None:
    """Two at the service and one at the file, ten changes each."""

    def by_service(flag: str) -> None:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        for percent in range(10):
            document = {"kind": "ramp", "flag": flag, "percent": percent, "by": flag, "reason": "because"}
            answer = requests.post(f"{service.url}/v1/changes", json=document, headers=headers, timeout=20)
            assert answer.json()["changed"], answer.text

    code = """
import sys
from decimal import Decimal
from flagkit.changes import Author, Ramp, opened
for percent in range(10):
    with opened(sys.argv[1]) as book:
        book.enter(Ramp("flag-2", Decimal(percent)).edit(book.text, book.history), Author("file", "because", "ramp"))
"""
    with ThreadPoolExecutor(3) as threads:
        work = [threads.submit(by_service, flag) for flag in ("flag-0", "flag-1")]
        work.append(threads.submit(subprocess.run, [sys.executable, "-c", code, service.path], check=True, cwd=ROOT))
        for each in work:
            each.result(60)
    flags = json.loads(service.path.read_text())["flags"]
    assert [flags[f"flag-{n}"]["rules"][0]["rollout"]["percent"] for n in range(3)] == [9, 9, 9]
    done(service, "kill", "flag-3")
    rows = service.query("SELECT change FROM changes WHERE command != 'edit' ORDER BY change")
    assert rows == [(number,) for number in range(1, 32)]
    assert service.query("SELECT COUNT(*) FROM changes WHERE command = 'edit'") == [(0,)]


def test_an_order_whose_answer_was_lost_is_carried_out_once_over_a_crash(service: Service) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Idempotency-Key": "r-1"}
    document = {"kind": "ramp", "flag": "flag-0", "percent": 5, "by": "ann", "reason": "because"}

    def send() -> Any:
        return requests.post(f"{service.url}/v1/changes", json=document, headers=headers, timeout=20).json()

    first = send()
    service.kill()
    service.start()
    again = send()
    assert (again["change"], again["number"], again["epoch"]) == (first["change"], first["number"], first["epoch"])
    assert len(service.query("SELECT * FROM changes")) == 1


def test_a_kill_works_while_the_file_is_half_written(service: Service) -> None:
    with working(service.url) as (worker,):
        worker.do("ready", 10)
        service.path.write_text(service.path.read_text()[:100])
        result = order(service, "kill", "flag-0")
        assert result.returncode == 0
        assert "the file is not changed" in result.stderr
        worker.do("until", "flag-0", "u", "off", 10)
    assert service.query("SELECT who, flag FROM changes") == [("ann", "flag-0")]


def test_the_doctor_finds_a_running_service_well(service: Service, tmp_path: Path) -> None:
    flags = ("--file", str(service.path), "--state-dir", str(tmp_path / "state"))
    result = flagkit("doctor", service.url, *flags, key=KEY)
    assert (result.returncode, "problem " in result.stdout) == (0, False), result.stdout
    assert "may read and write" in result.stdout
    assert KEY not in result.stdout + result.stderr
    assert service.query("SELECT COUNT(*) FROM batches") == [(0,)]


def test_the_doctor_finds_what_is_wrong_with_a_key(service: Service) -> None:
    result = flagkit("doctor", service.url, key="nonsense")
    assert result.returncode == 1
    assert "is not known there (401)" in result.stdout
    assert "nonsense" not in result.stdout


def test_the_doctor_finds_that_nobody_is_there(service: Service) -> None:
    service.kill()
    result = flagkit("doctor", service.url)
    assert (result.returncode, "refuses connections" in result.stdout) == (1, True)


def wait_for_number(service: Service, number: int) -> None:
    stop = time.monotonic() + 10
    while requests.get(f"{service.url}/healthz", timeout=10).json()["number"] < number:
        assert time.monotonic() < stop
        time.sleep(0.02)
