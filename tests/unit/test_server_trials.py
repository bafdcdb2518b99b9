"""The lane of guards at the service: what is taken, what is refused, and what is remembered."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sites import READ, WRITE, Answer, Site

from flagkit.core.holds import hold_document
from flagkit.production.judge import claim, read_claim
from flagkit.production.tally import Tally

PROCESS = "0" * 32
HALF = {"rules": [{"name": "half", "rollout": {"percent": 50}, "serve": "on"}], "guard": {"revision": 2}}
DOCUMENT = {"schema": 1, "environment": "production", "flags": {"f": HALF, "free": {}}}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, json.dumps(DOCUMENT))
    site.service.start()
    yield site
    site.service.close()


def counted(failing: float = 0.0, calls: int = 1000) -> str:
    """What a process has counted whose candidate fails in every so many calls."""
    tally = Tally()
    for number in range(calls):
        arm = number % 2
        handle = tally.start("half", arm, b"user-%d" % number)
        tally.finish(handle, bool(arm and failing and number % int(2 / failing) == 1), 0.01)
    return base64.b64encode(tally.drain()).decode()


def report(**fields: Any) -> dict[str, Any]:
    trial = {"environment": "production", "flag": "f", "revision": 2, "candidate": "on"}
    return {**trial, "policy": "{}", "counted": "", **fields}


def post(site: Site, body: Any, headers: dict[str, str] = WRITE) -> Answer:
    wire = body if isinstance(body, bytes) else json.dumps(body).encode()
    return site.call("POST", "/v1/guards", {**headers, "content-encoding": "gzip"}, [gzip.compress(wire)])


def exchange(site: Site, sequence: int, *reports: dict[str, Any], process: str = PROCESS) -> Any:
    answer = post(site, {"process": process, "sequence": sequence, "reports": list(reports)})
    assert answer.status == 200, answer.body
    return answer.json["words"]


def test_counts_of_several_processes_are_judged_together_and_a_verdict_is_served(site: Site) -> None:
    for number in range(1, 8):
        (word,) = exchange(site, 1, report(counted=counted(0.2)), process=f"{number:032x}")
    said = json.loads(word["word"])
    assert said["kind"] == "errors"
    flag = site.service.definitions.served.definitions.flags["f"]
    assert list(flag.tripped) == ["on"]
    assert "fails more often" in flag.tripped["on"]
    (state,) = site.service.trials.states()
    assert (state["flag"], state["why"]) == ("f", said["why"])


def test_what_was_heard_before_changes_nothing(site: Site) -> None:
    report_once = report(counted=counted(0.1, 200))
    (first,) = exchange(site, 1, report_once)
    (again,) = exchange(site, 1, report_once)
    assert json.loads(again["word"])["evidence"] == json.loads(first["word"])["evidence"]


def test_a_restart_goes_on_with_the_evidence(site: Site, tmp_path: Path) -> None:
    exchange(site, 1, report(counted=counted(0.1, 400)))
    before = site.service.trials.states()[0]["calls"]
    site.service.close()
    site.make()
    site.service.start()
    (word,) = exchange(site, 2, report())
    assert json.loads(word["word"])["evidence"]["calls"] == before


@pytest.mark.parametrize(
    "other", [{"revision": 1}, {"flag": "none"}, {"environment": "test"}, {"candidate": "no-variant"}]
)
def test_what_the_definitions_do_not_know_is_not_judged(site: Site, other: dict[str, Any]) -> None:
    assert exchange(site, 1, report(**other)) == []


def test_a_policy_in_code_is_judged_and_served_by_nobody(site: Site) -> None:
    for number in range(1, 8):
        (word,) = exchange(site, 1, report(flag="free", revision=0, counted=counted(0.2)), process=f"{number:032x}")
    assert json.loads(word["word"])["why"]
    assert site.service.definitions.served.definitions.flags["free"].tripped == {}


def claimed(rules: dict[str, Any]) -> str:
    return base64.b64encode(claim(rules, "it hurts")).decode()


def test_what_a_process_holds_is_served_and_told_to_all(site: Site) -> None:
    rules = {"half": {"percent": 5, "shares": {"on": 1}}}
    exchange(site, 1, report(counted=claimed({**rules, "no such rule": rules["half"]})))
    flag = site.service.definitions.served.definitions.flags["f"]
    assert flag.held is not None
    assert (hold_document(flag.held), flag.held.why) == (rules, "it hurts")
    (word,) = exchange(site, 1, report(), process="1" * 32)
    held = read_claim(json.loads(word["word"])["held"])
    assert held is not None
    assert held[0].keys() == {"half", "no such rule"}
    assert json.loads(word["word"])["evidence"]["calls"] == [0, 0]
    exchange(site, 2, report(counted=claimed({"half": {"percent": 1, "shares": {"on": 1}}})))
    flag = site.service.definitions.served.definitions.flags["f"]
    assert flag.held is not None
    assert hold_document(flag.held) == rules, "what was found first stays"
    changes = site.get("/v1/changes", READ).json["changes"]
    assert [(change["by"], change["command"], change["flag"]) for change in changes][-1] == ("guard", "hold", "f")
    (state,) = site.service.trials.states()
    assert (state["state"], state["why"]) == ("held", 'rule "half" at 5 %: it hurts')


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"rules": {}, "why": ""}', b'{"rules": 5}', b"x" * 3000])
def test_a_claim_that_cannot_be_read_is_left_out(site: Site, text: bytes) -> None:
    exchange(site, 1, report(counted=base64.b64encode(claim({}, "")[:5] + text).decode()))
    assert site.service.definitions.served.definitions.flags["f"].held is None


def test_counts_that_cannot_be_read_are_left_out(site: Site) -> None:
    (word,) = exchange(site, 1, report(counted=base64.b64encode(b"nonsense").decode()))
    assert json.loads(word["word"])["evidence"]["calls"] == [0, 0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "expected an object"),
        ([], "expected an object"),
        ({"process": "x", "sequence": 1, "reports": []}, "process: "),
        ({"process": PROCESS, "sequence": -1, "reports": []}, "sequence: "),
        ({"process": PROCESS, "sequence": True, "reports": []}, "sequence: "),
        ({"process": PROCESS, "sequence": 1, "reports": {}}, "reports: "),
        ({"process": PROCESS, "sequence": 1, "reports": [{}]}, "reports[0]: "),
        ({"process": PROCESS, "sequence": 1, "reports": [report(counted="?")]}, "reports[0]: "),
        ({"process": PROCESS, "sequence": 1, "reports": [report(revision="1")]}, "reports[0].revision: "),
        ({"process": PROCESS, "sequence": 1, "reports": [report(flag="x" * 300)]}, "reports[0]: "),
    ],
)
def test_what_is_no_report_is_refused_and_said(site: Site, body: Any, said: str) -> None:
    answer = post(site, body)
    assert answer.status == 400
    assert answer.json["error"].startswith(said)


def test_too_much_is_refused_and_so_is_whoever_may_not_write(site: Site) -> None:
    large = report(counted=base64.b64encode(bytes(70_000)).decode())
    assert post(site, {"process": PROCESS, "sequence": 1, "reports": [large]}).status == 413
    assert post(site, {"process": PROCESS, "sequence": 1, "reports": []}, READ).status == 401
    assert post(site, {"process": PROCESS, "sequence": 1, "reports": []}, {}).status == 401


def test_memory_is_bounded_and_what_gives_way_is_remembered(site: Site) -> None:
    for revision in range(510):
        exchange(site, revision + 1, report(flag="free", revision=revision, counted=counted(0.0, 20)))
    assert len(site.service.trials.states()) == 500
    (word,) = exchange(site, 600, report(flag="free", revision=0))
    assert json.loads(word["word"])["evidence"]["calls"] == [10, 10]


def test_a_trip_is_noted_with_its_reason_by_the_guard(site: Site) -> None:
    for number in range(1, 8):
        exchange(site, 1, report(counted=counted(0.2)), process=f"{number:032x}")
    changes = site.get("/v1/changes", READ).json["changes"]
    assert [(change["by"], change["command"], change["flag"]) for change in changes][-1] == ("guard", "trip", "f")
    assert "fails more often" in changes[-1]["reason"]
