"""The service's HTTP contract, asked in process: statuses, headers, keys, limits."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_events import HOUR_MS, NOW_MS, batch, exposure, metric
from sites import DEFINITIONS, READ, WRITE, Site, StillClock

from flagkit.errors import ConfigError, DefinitionsError
from flagkit.server.app import build_app
from flagkit.server.config import ServerConfig
from flagkit.server.intake import MAX_WIRE_BYTES
from flagkit.server.service import Service


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.service.start()
    yield site
    site.service.close()


def test_definitions_are_json_with_a_strong_etag(site):
    answer = site.get("/v1/definitions", READ)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["etag"].startswith('"')
    assert "content-encoding" not in answer.headers
    assert answer.json["flag_count"] == 2


@pytest.mark.parametrize("accepted", ["gzip", "br, GZIP;q=0.5", "deflate,gzip; q=1.0"])
def test_definitions_are_compressed_for_who_takes_it(site, accepted):
    plain = site.get("/v1/definitions", READ)
    answer = site.get("/v1/definitions", {**READ, "Accept-Encoding": accepted})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["etag"] == plain.headers["etag"]
    assert gzip.decompress(answer.body) == plain.body


@pytest.mark.parametrize("accepted", ["identity", "br", "gzip;q=0", "x-gzip", ""])
def test_definitions_are_plain_for_everyone_else(site, accepted):
    assert "content-encoding" not in site.get("/v1/definitions", {**READ, "Accept-Encoding": accepted}).headers


def test_unchanged_definitions_are_a_304_until_they_change(site):
    etag = site.get("/v1/definitions", READ).headers["etag"]
    for sent in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        answer = site.get("/v1/definitions", {**READ, "If-None-Match": sent})
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
    site.edit(json.dumps({**DEFINITIONS, "version": "2"}))
    answer = site.get("/v1/definitions", {**READ, "If-None-Match": etag})
    assert answer.status == 200
    assert answer.json["number"] == 2


def test_a_bad_edit_is_seen_in_healthz_while_the_last_good_one_stays_served(site):
    before = site.get("/v1/definitions", READ).body
    site.edit('{"schema": 1, "flags": {"checkout": {"default": "maybe"}}}')
    assert site.get("/v1/definitions", READ).body == before
    health = site.get("/healthz").json
    assert health["ok"]
    assert health["number"] == 1
    assert not health["definitions"]["ok"]
    assert "$.flags.checkout.default" in health["definitions"]["problems"][0]


def test_healthz_needs_no_key_and_tells_what_is_stored(site):
    site.post(batch(exposure(), metric()))
    answer = site.get("/healthz")
    epoch = answer.json["epoch"]
    assert answer.json == {
        "ok": True,
        "epoch": epoch,
        "number": 1,
        "flag_count": 2,
        "events": 2,
        "enrolments": {"units": 0, "refused": 0},
        "definitions": {"ok": True, "problems": []},
    }


def test_healthz_shows_strangers_on_a_network_no_part_of_the_file(tmp_path):
    site = Site(tmp_path, host="0.0.0.0")
    site.service.start()
    try:
        site.edit('{"schema": 1, "flags": {"secret-plan": 7}}')
        stranger, reader = site.get("/healthz"), site.get("/healthz", READ)
    finally:
        site.service.close()
    assert stranger.json["definitions"] == {"ok": False, "problems": []}
    assert "secret-plan" in reader.json["definitions"]["problems"][0]


@pytest.mark.parametrize("headers", [{}, WRITE, {"Authorization": "Bearer nonsense"}, {"Authorization": "read-key"}])
@pytest.mark.parametrize("path", ["/v1/definitions", "/v1/summary"])
def test_reading_needs_a_read_key(site, path, headers):
    answer = site.get(path, headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "read key" in answer.json["error"]


@pytest.mark.parametrize("headers", [READ, {"Authorization": "Bearer nonsense"}, {"Authorization": ""}])
def test_writing_needs_a_write_key_and_nothing_is_read_without(site, headers):
    answer = site.post(batch(exposure()), b"more", headers=headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert site.unread == 2
    assert site.service.store.stored == 0


def test_no_key_is_ever_logged_or_answered(site, caplog):
    caplog.set_level(0)
    answers = [
        site.get("/v1/definitions", WRITE),
        site.get("/v1/definitions", READ),
        site.post(b"{"),
        site.get("/healthz", READ),
    ]
    seen = caplog.text + "".join(repr(answer) for answer in answers)
    assert "read-key" not in seen
    assert "write-key" not in seen


def test_a_batch_is_answered_with_its_id_and_what_was_taken(site):
    bad = exposure(unit="bad", time_ms=-1)
    bad["time_ms"] = "soon"
    answer = site.post(batch(exposure(), metric(), bad, batch_id="b-1"))
    assert answer.status == 202
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "batch_id": "b-1",
        "accepted": 2,
        "rejected": [{"id": bad["id"], "reason": "invalid_time", "retry": False}],
    }
    assert site.service.store.stored == 2


def test_a_retry_of_a_batch_is_answered_the_same_and_stored_once(site):
    body = gzip.compress(batch(exposure(), metric(), metric(name="x", time_ms=-1), batch_id="b-1"))
    headers = {"Content-Encoding": "gzip", "Idempotency-Key": "b-1"}
    first, again = site.post(body, headers=headers), site.post(body[:50], body[50:], headers=headers)
    assert first.json["accepted"] == 2
    assert again.body == first.body
    assert site.get("/v1/summary", READ).json["received"]["deliveries"] == 2
    assert site.service.store.stored == 2


def test_an_idempotency_key_that_is_not_the_batch_id_is_refused(site):
    answer = site.post(batch(exposure(), batch_id="b-1"), headers={"Idempotency-Key": "b-2"})
    assert answer.status == 400
    assert "Idempotency-Key" in answer.json["error"]
    assert site.service.store.stored == 0


def test_a_malformed_body_is_a_400_that_says_why(site):
    assert site.post(b"{").json == {"error": "the body is not JSON in UTF-8"}
    assert site.post(b"{").status == 400
    assert site.post(b"{}", headers={"Content-Encoding": "br"}).status == 415


def test_a_body_over_the_limit_is_a_413_before_it_is_read(site):
    answer = site.post(b"x", b"x", headers={"Content-Length": str(MAX_WIRE_BYTES + 1)})
    assert answer.status == 413
    assert answer.json["error"]
    assert site.unread == 2


def test_a_body_of_no_stated_length_is_read_no_further_than_the_limit(site):
    chunk = bytes(MAX_WIRE_BYTES // 4)
    answer = site.post(*[chunk] * 100)
    assert answer.status == 413
    assert site.unread == 95


def test_a_gzip_bomb_is_a_413(site):
    assert site.post(gzip.compress(bytes(100_000_000), 1), headers={"Content-Encoding": "gzip"}).status == 413


def test_a_client_that_hangs_up_stores_nothing(site):
    assert site.post(batch(exposure())[:20], None).status == 400
    assert site.service.store.stored == 0


def test_a_disk_that_is_full_is_a_503_and_the_events_are_taken_later(site):
    body = batch(*[exposure(unit=f"user-{n}") for n in range(500)])
    site.service.store.submit(lambda connection: connection.execute("PRAGMA max_page_count = 1")).result(10)
    answer = site.post(body)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert site.get("/healthz").status == 503
    site.service.store.submit(lambda connection: connection.execute("PRAGMA max_page_count = 1000000")).result(10)
    assert site.post(body).json["accepted"] == 500
    assert site.get("/healthz").status == 200


def test_a_summary_can_be_asked_for_one_flag_and_a_time(site):
    site.post(batch(exposure("checkout"), exposure("search"), exposure("search", unit="b", time_ms=NOW_MS + HOUR_MS)))
    whole = site.get("/v1/summary", READ).json
    assert whole["flags"].keys() == {"checkout", "search"}
    for since in (str(NOW_MS + 1), "2026-05-10T08:00:00.001Z", "2026-05-10T10:00:00.001%2B02:00"):
        part = site.get(f"/v1/summary?flag=search&since={since}", READ).json
        assert part["since_ms"] == NOW_MS + 1
        assert part["flags"]["search"]["units"] == 1


@pytest.mark.parametrize("since", ["yesterday", "2026-05-10T08:00:00", "12.5", "-1", "9" * 16])
def test_a_time_that_cannot_be_read_is_a_400(site, since):
    answer = site.get(f"/v1/summary?since={since}", READ)
    assert answer.status == 400
    assert answer.json["error"].startswith("since:")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/definitions/", 404),
        ("POST", "/v1/definitions", 405),
        ("GET", "/v1/events", 405),
        ("DELETE", "/v1/summary", 405),
    ],
)
def test_a_wrong_address_or_method_is_answered_in_json(site, method, path, status):
    answer = site.call(method, path, {}, [b""])
    assert answer.status == status
    assert isinstance(answer.json["error"], str)


def test_making_an_app_opens_nothing(tmp_path):
    before = threading.active_count()
    build_app(ServerConfig(tmp_path / "flags.json", tmp_path / "flagkit.db"))
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before


def test_the_lifespan_of_the_app_starts_and_closes_the_service(tmp_path):
    site = Site(tmp_path)
    before = threading.active_count()

    async def live() -> int:
        async with site.app.router.lifespan_context(site.app):
            return threading.active_count()

    running = asyncio.run(live())
    assert running > before
    assert {thread.name for thread in threading.enumerate()}.isdisjoint({"flagkit-writer", "flagkit-definitions"})
    site.service.close()


def test_a_service_that_cannot_start_leaves_no_thread(tmp_path):
    site = Site(tmp_path)
    site.path.write_text("{")
    with pytest.raises(DefinitionsError):
        site.service.start()
    assert "flagkit-writer" not in {thread.name for thread in threading.enumerate()}
    assert list(tmp_path.iterdir()) == [site.path]
    site.path.write_text(json.dumps(DEFINITIONS))
    site.config.db.mkdir()
    with pytest.raises(ConfigError):
        Service(site.config, StillClock()).start()
