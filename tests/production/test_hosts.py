"""Trips and deaths on one host, with real processes: what kills or hangs a worker is rolled back there too."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hosts import Worker

from flagkit import Client, Config

HALF = {"guard": {}, "rules": [{"name": "half", "rollout": {"percent": 50}, "serve": "on"}]}


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    return publish(tmp_path / "flags.json", HALF)


def publish(path: Path, flag: dict[str, object]) -> Path:
    path.write_text(json.dumps({"schema": 1, "environment": "test", "flags": {"f": flag}}))
    return path


@pytest.mark.parametrize(("candidate", "kill_after_s"), [("abort", 60), ("loop", 3), ("hang", 3), ("give_up", 60)])
def test_a_candidate_that_kills_or_hangs_workers_is_rolled_back(
    candidate: str, kill_after_s: float, flags: Path, tmp_path: Path
) -> None:
    deaths = 0
    for _ in range(8):
        said = Worker(tmp_path / "state", flags, candidate).end(kill_after_s)
        if said[-1:] == ["done"]:
            break
        deaths += 1
    assert said[-1] == "done", said
    assert set(said[:-1]) == {"off"}
    assert deaths == 2


def test_a_worker_that_ends_in_peace_in_a_call_of_the_candidate_says_nothing_of_it(flags: Path, tmp_path: Path) -> None:
    for _ in range(4):
        assert Worker(tmp_path / "state", flags, "leave").end()[-1] == "on"


def test_a_worker_that_is_killed_in_calls_of_the_control_says_nothing_of_the_candidate(
    tmp_path: Path,
) -> None:
    flags = publish(tmp_path / "flags.json", {"guard": {}, "rules": []})
    for _ in range(3):
        worker = Worker(tmp_path / "state", flags, "well", calls=10_000, pause_s=0.01)
        time.sleep(0.5)
        worker.end(kill_after_s=0)
    with Client.from_file(flags, config=Config(state_dir=tmp_path / "state")) as client:
        assert client.status.trips == {}


def test_a_trip_is_known_to_a_process_that_starts_before_its_first_answer(flags: Path, tmp_path: Path) -> None:
    first = Worker(tmp_path / "state", flags, "fail", calls=100).end()
    assert first.count("on") >= 5
    assert set(first[-20:-1]) == {"off"}
    second = Worker(tmp_path / "state", flags, "fail", calls=50).end()
    assert second == ["off"] * 50 + ["done"]


def test_the_other_processes_of_the_host_follow_within_a_second(flags: Path, tmp_path: Path) -> None:
    config = Config(state_dir=tmp_path / "state", processes=1)
    with Client.from_file(flags, config=config) as client:
        on = next(f"user-{n}" for n in range(100) if client.peek("f", f"user-{n}").variant == "on")
        assert client.enabled("f", on)
        worker = Worker(tmp_path / "state", flags, "fail", calls=100)
        worker.end()
        ended_s = time.monotonic()
        while client.enabled("f", on):
            assert time.monotonic() < ended_s + 2
            time.sleep(0.01)
        assert time.monotonic() < ended_s + 1.3
        assert "breaker" in client.status.trips["f"]


def test_what_is_over_is_over_for_all_of_them(flags: Path, tmp_path: Path) -> None:
    """The breaker of a process that has gone is tried again by another; one that closes it tells the others."""
    Worker(tmp_path / "state", flags, "fail", calls=60).end()
    (notice,) = (tmp_path / "state" / "guards").glob("*.trip")
    told = json.loads(notice.read_text())
    notice.write_text(json.dumps({**told, "until_ms": 1}))  # long ago
    notice.chmod(0o600)
    said = Worker(tmp_path / "state", flags, "well", calls=5, pause_s=0.3).end()
    assert set(said[:-1]) == {"off"}
    taken = json.loads(notice.read_text())
    assert (taken["tries"], taken["owner"] != told["owner"]) == (1, True)


def test_a_process_that_ends_in_peace_leaves_nothing_behind(flags: Path, tmp_path: Path) -> None:
    Worker(tmp_path / "state", flags, "well", calls=20).end()
    assert os.listdir(tmp_path / "state" / "guards") == []


def test_a_higher_revision_is_tried_anew_on_the_whole_host(flags: Path, tmp_path: Path) -> None:
    Worker(tmp_path / "state", flags, "fail", calls=60).end()
    publish(flags, {**HALF, "guard": {"revision": 1}})
    said = Worker(tmp_path / "state", flags, "well", calls=60).end()
    assert said.count("on") > 10


def test_a_folder_that_cannot_be_used_is_said_and_guards_go_on_without(flags: Path, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "guards").write_text("in the way")
    with Client.from_file(flags, config=Config(state_dir=tmp_path / "state", processes=1)) as client:
        for number in range(200):
            try:
                with client.gate("f", number) as gate:
                    if gate.on:
                        raise ValueError
            except ValueError:
                pass
        assert "f" in client.status.trips
        assert client.status.disk == "off"
