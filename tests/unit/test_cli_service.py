"""``flagkit serve`` and ``flagkit summary``, against each other: a real process on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flagkit.cli import main

ROOT = Path(__file__).parents[2]
FLAGS = '{"schema": 1, "flags": {"new-search": {"rules": [{"rollout": {"percent": 5}, "serve": "on"}]}, "quiet": {}}}'
HOUR_MS = 3_600_000
NOON_MS = 1_795_435_200_000  # 2026-11-23T12:00:00Z


def start(directory: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    (directory / "flags.json").write_text(FLAGS)
    code = "from flagkit.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "serve", str(directory / "flags.json"), "--db", str(directory / "db"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def exposure(unit: str, variant: str, time_ms: int) -> dict[str, Any]:
    return {
        "id": sha256(f"{unit} {variant} {time_ms}".encode()).hexdigest()[:32],
        "type": "exposure",
        "time_ms": time_ms,
        "feature_flag.context.id": unit,
        "feature_flag.key": "new-search",
        "feature_flag.result.variant": variant,
        "feature_flag.result.reason": "split",
        "feature_flag.version": "1",
        "feature_flag.set.id": None,
        "flagkit.rule": "rule-0",
        "flagkit.assigned": variant,
        "flagkit.analysable": True,
    }


def calls(variant: str, hour: int, digit: str) -> dict[str, Any]:
    """Sixteen calls around 6 ms, and four that failed, of the candidate."""
    errors = {"ValueError": 2, "KeyError": 1, "OSError": 1} if variant == "on" else {}
    names = {"feature_flag.key": "new-search", "feature_flag.result.variant": variant}
    properties = {**names, "errors": errors, "places": {}, "buckets": {"-173": 16}}
    event = {"type": "metric", "name": "flagkit.calls", "time_ms": NOON_MS + hour * HOUR_MS, "properties": properties}
    return {**event, "id": digit * 32, "feature_flag.context.id": None, "feature_flag.set.id": None, "value": None}


def send(url: str, key: str, events: list[dict[str, Any]]) -> None:
    body = json.dumps({"batch_id": "b" * 32, "sent_at": NOON_MS, "dropped": {"full": 3}, "events": events}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/events", body, headers), timeout=10) as answer:
        assert answer.status == 202


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("service")
    process = start(directory, "--port", "0", FLAGKIT_READ_KEY="old-reader reader", FLAGKIT_WRITE_KEY="writer")
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    try:
        assert line.startswith("listening on http://127.0.0.1:"), process.stderr.read()
        url = line.split()[-1]
        events = [exposure(f"u{n}", "on" if n < 5 else "off", NOON_MS) for n in range(20)]
        events += [exposure("u1", "on", NOON_MS + HOUR_MS)]
        events += [calls("on", 0, "c"), calls("on", 1, "d"), calls("off", 0, "e")]
        sale = {"type": "metric", "time_ms": NOON_MS + 1, "name": "sale", "value": 12.5, "properties": {}}
        send(
            url,
            "writer",
            [*events, {**sale, "id": "a" * 32, "feature_flag.context.id": "u2", "feature_flag.set.id": None}],
        )
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=20)


def summary(*arguments: str, key: str | None = "reader") -> Result:
    result = CliRunner().invoke(main, ["summary", *arguments], env={"FLAGKIT_READ_KEY": key})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_the_summary_is_a_table_of_units_and_exposures_by_variant(service: str) -> None:
    result = summary(service)
    assert result.exit_code == 0
    assert result.output == (
        "flag        variant  units    share  exposures\n"
        "new-search  off         15  75.00 %         15\n"
        "new-search  on           5  25.00 %          6\n"
        "\n"
        "metric  flag        variant  units  with it  events  mean\n"
        "sale    new-search  on           5        1       1  12.5\n"
        "\n"
        "hour  flag        variant  calls  failed       p50       p90       p99  errors\n"
        "all   new-search  off         16       0  6.287 ms  6.287 ms  6.287 ms  -\n"
        "all   new-search  on          40       8  6.287 ms  6.287 ms  6.287 ms  ValueError 4, KeyError 2, OSError 2\n"
        "\n"
        "stored: 21 exposures, 1 metrics\n"
        "received: 1 batches, 1 deliveries, 25 events, 25 accepted, 0 duplicates\n"
        "lost by clients: 3 full\n"
    )


def test_one_flag_is_shown_hour_by_hour(service: str) -> None:
    result = summary(service, "--flag", "new-search", "--since", "2026-11-23T14:00:00+02:00")
    assert "2026-11-23T12:00:00Z  off         15         15\n" in result.output
    assert "2026-11-23T13:00:00Z  on           1          1\n" in result.output
    assert "2026-11-23T13:00:00Z  new-search  on          20       4" in result.output
    later = summary(service, "--flag", "new-search", "--since", "2026-11-23T13:00:00Z")
    assert "2026-11-23T12:00:00Z" not in later.output
    assert "no exposures\n" in summary(service, "--since", "2027-01-01").output


def test_json_is_the_answer_of_the_service(service: str) -> None:
    found = json.loads(summary(service + "/", "--json").output)
    assert found["flags"]["new-search"]["variants"]["on"]["units"] == 5
    assert found["dropped"] == {"full": 3}


def test_any_of_the_keys_in_the_environment_is_right(service: str) -> None:
    assert summary(service, key="old-reader").exit_code == 0


@pytest.mark.parametrize("key", [None, "writer", "wrong"])
def test_a_wrong_key_is_one_line_without_the_key(service: str, key: str | None) -> None:
    result = summary(service, key=key)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {service}: not the read key (give it in FLAGKIT_READ_KEY)\n"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:1", "http://127.0.0.1:1/v1/summary: connection refused"),
        ("http://127.0.0.1:1/behind/a/proxy/", "http://127.0.0.1:1/behind/a/proxy/v1/summary: connection refused"),
        ("nonsense", "url: got 'nonsense'; expected a URL such as"),
        ("http://example.com", "https://, or http:// on loopback"),
        ("http://user:secret@127.0.0.1:1", "a URL without user name"),
    ],
)
def test_no_answer_is_one_line(url: str, message: str) -> None:
    result = summary(url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert "secret@" not in result.stderr


def test_another_address_of_the_service_is_no_summary(service: str) -> None:
    assert summary(f"{service}/other").stderr == f"Error: {service}/other: answered with status 404\n"


def serve(*arguments: str, **environment: str) -> Result:
    result = CliRunner().invoke(main, ["serve", *arguments], env=environment)
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    return result


def test_definitions_that_cannot_be_served_end_it_with_their_problems(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_text('{"schema": 2, "flags": {}}')
    result = serve(str(path), "--db", str(tmp_path / "db"), "--port", "0")
    assert result.stderr.endswith(f"Error: {path}: no definitions that can be served\n")


@pytest.mark.parametrize("text", [None, '{"schema": 2, "flags": {}}'])
def test_a_first_start_that_cannot_work_leaves_nothing_behind(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "flags.json"
    if text is not None:
        path.write_text(text)
    serve(str(path), "--db", str(tmp_path / "db"), "--port", "0")
    assert [each for each in tmp_path.iterdir() if each != path] == []


def test_a_host_that_others_reach_needs_keys(tmp_path: Path) -> None:
    result = serve(str(tmp_path / "flags.json"), "--host", "0.0.0.0")
    assert result.stderr.startswith("Error: read_keys: ")
    assert result.stderr.count("\n") == 1


def test_a_key_that_is_none_is_never_shown(tmp_path: Path) -> None:
    result = serve(str(tmp_path / "flags.json"), "--write-key", "sécret")
    assert result.stderr.startswith("Error: write_keys: got a value not shown here")


def test_help_says_where_keys_belong() -> None:
    text = CliRunner().invoke(main, ["serve", "--help"]).output
    assert "FLAGKIT_READ_KEY" in text
    assert "FLAGKIT_WRITE_KEY" in text
    assert "FLAGKIT_ADMIN_KEY" in text
