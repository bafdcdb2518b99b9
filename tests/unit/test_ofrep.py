"""OFREP on the service, asked in process: what is answered, to whom, to which pages, and how much of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from server_events import NOW_MS
from sites import ADMIN, READ, WRITE, Answer, Site

from flagkit import Client, sources
from flagkit.server.allowance import Allowance
from flagkit.server.evaluation import MAX_CONTEXT_BYTES

BROWSER = {"Authorization": "Bearer browser-key"}
SHOP = {"Origin": "https://shop.example.com"}
YES = {"attribute": "plan", "op": "in", "values": ["pro"]}
HALF = {"rollout": {"percent": 50}, "serve": "on"}
PAST, FUTURE = "2000-01-01", "2999-01-01"
FLAGS: dict[str, Any] = {
    "on": {"default": "on", "client": True},
    "off": {"client": True},
    "disabled": {"enabled": False, "default": "on", "client": True},
    "pro": {"rules": [{"name": "payers", "when": [YES], "serve": "on"}], "client": True, "version": "7"},
    "half": {"rules": [{"name": "half", **HALF}], "client": True},
    "by-company": {"rules": [{"rollout": {"percent": 100, "by": "company"}, "serve": "on"}], "client": True},
    "half-of-pro": {"rules": [{"when": [YES], **HALF}], "client": True},
    "targeted-half": {"rules": [{"when": [YES], "serve": "on"}, HALF], "client": True},
    "excluded": {"exclude": [YES], "default": "on", "client": True},
    "child": {"prerequisites": [{"flag": "secret", "variants": ["on"]}], "default": "on", "client": True},
    "ramp": {
        "rules": [
            {"rollout": {"steps": [{"from": PAST, "percent": 100}, {"from": FUTURE, "percent": 0}]}, "serve": "on"}
        ],
        "client": True,
    },
    "beta": {"rules": [{"when": [{"enrolled": True}], "serve": "on"}], "client": True},
    "guarded": {
        "variants": {"old": "o", "new": "n"},
        "off": "old",
        "default": "new",
        "guard": {"tripped": {"new": "errors"}},
        "client": True,
    },
    "held": {
        "rules": [{"name": "ramp", "rollout": {"percent": 100}, "serve": "on"}],
        "guard": {"held": {"rules": {"ramp": {"percent": 0, "shares": {"on": 1}}}, "why": "it hurts"}},
        "client": True,
    },
    "secret": {"default": "on"},
    **{
        name: {"variants": {"v": value, "none": None}, "off": "none", "default": "v", "client": True}
        for name, value in {
            "text": "å",
            "int": 7,
            "float": 1.5,
            "object": {"a": [1]},
            "list": [1, 2],
            "null": None,
        }.items()
    },
}

_KEY = {"type": "string"}
_METADATA = {"type": "object", "additionalProperties": {"type": ["boolean", "string", "number"]}}
#: evaluationSuccess of the protocol, version 0.3.0; lists are the one thing in which the service goes beyond it.
SUCCESS = {
    "type": "object",
    "required": ["key", "reason"],
    "properties": {
        "key": _KEY,
        "reason": {"enum": ["STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED", "UNKNOWN"]},
        "variant": {"type": "string"},
        "value": {"type": ["boolean", "string", "number", "object", "array"]},
        "metadata": _METADATA,
    },
    "additionalProperties": False,
}
_FAILED = {"type": "object", "required": ["key", "errorCode"], "additionalProperties": False}
_DETAILS = {"type": "string"}
FAILURE = {
    **_FAILED,
    "properties": {
        "key": _KEY,
        "errorCode": {"enum": ["PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "GENERAL"]},
        "errorDetails": _DETAILS,
    },
}
NOT_FOUND = {**_FAILED, "properties": {"key": _KEY, "errorCode": {"const": "FLAG_NOT_FOUND"}, "errorDetails": _DETAILS}}
BULK_SUCCESS = {
    "type": "object",
    "required": ["flags"],
    "properties": {"flags": {"type": "array", "items": {"oneOf": [SUCCESS, FAILURE]}}, "metadata": _METADATA},
    "additionalProperties": False,
}
#: bulkEvaluationFailure, and what 401, 403 and 429 say, for which the protocol has no schema.
BULK_FAILURE = {
    "type": "object",
    "required": ["errorCode"],
    "properties": {"errorCode": {"type": "string"}, "errorDetails": _DETAILS},
    "additionalProperties": False,
}
ONE = {200: SUCCESS, 400: FAILURE, 404: NOT_FOUND}
ALL = {200: BULK_SUCCESS, 400: BULK_FAILURE}


class Service(Site):
    """A service with a browser key and a page that may ask; every answer is held against the protocol's schemas."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        given = {"browser_keys": ("browser-key",), "origins": ("https://shop.example.com",), **settings}
        document = {"schema": 1, "environment": "production", "flags": FLAGS}
        super().__init__(directory, json.dumps(document), **given)
        self.service.start()

    def one(self, key: str, context: Any = None, headers: dict[str, str] = READ, body: bytes | None = None) -> Answer:
        return self._ask(f"/{key}", {"targetingKey": "u"} if context is None else context, headers, body, ONE)

    def all(self, context: Any = None, headers: dict[str, str] = READ, body: bytes | None = None) -> Answer:
        return self._ask("", {"targetingKey": "u"} if context is None else context, headers, body, ALL)

    def _ask(
        self, path: str, context: Any, headers: dict[str, str], body: bytes | None, schemas: dict[int, Any]
    ) -> Answer:
        sent = json.dumps({"context": context}).encode() if body is None else body
        answer = self.call("POST", f"/ofrep/v1/evaluate/flags{path}", headers, [sent])
        if answer.status != 304:
            assert answer.headers["content-type"] == "application/json"
            Draft202012Validator(schemas.get(answer.status, BULK_FAILURE)).validate(answer.json)
        return answer


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Service]:
    site = Service(tmp_path)
    yield site
    site.service.close()


def values(answer: Answer) -> dict[str, Any]:
    return {flag["key"]: flag.get("value") for flag in answer.json["flags"]}


# -- one flag


def test_a_flag_is_answered_with_value_variant_reason_and_what_decided(site):
    answer = site.one("pro", {"targetingKey": "u", "plan": "pro"})
    assert answer.status == 200
    assert answer.json == {
        "key": "pro",
        "reason": "TARGETING_MATCH",
        "variant": "on",
        "value": True,
        "metadata": {"version": "7", "rule": "payers"},
    }


@pytest.mark.parametrize(
    ("flag", "value"),
    [("text", "å"), ("int", 7), ("float", 1.5), ("object", {"a": [1]}), ("list", [1, 2]), ("off", False)],
)
def test_a_value_keeps_its_json_type(site, flag, value):
    answer = site.one(flag).json["value"]
    assert (answer, type(answer)) == (value, type(value))


def test_a_null_leaves_the_value_to_the_code_s_default(site):
    answer = site.one("null")
    assert answer.status == 200
    assert "value" not in answer.json
    assert answer.json["variant"] == "v"


@pytest.mark.parametrize(
    ("flag", "reason", "own"),
    [
        ("on", "STATIC", None),
        ("pro", "STATIC", "DEFAULT"),
        ("half", "SPLIT", None),
        ("disabled", "DISABLED", None),
        ("excluded", "TARGETING_MATCH", "EXCLUDED"),
        ("child", "TARGETING_MATCH", None),
    ],
)
def test_a_reason_is_in_the_protocol_s_words_and_flagkit_s_own_is_in_the_metadata(site, flag, reason, own):
    document = json.loads(site.path.read_text())
    document["flags"]["child"] = {"targets": {"on": ["u"]}}
    site.edit(json.dumps(document))
    said = site.one(flag).json
    assert (said["reason"], said["metadata"].get("reason")) == (reason, own)


def test_every_answer_is_the_one_that_a_client_gives(site):
    client = Client(source=sources.Static({"schema": 1, "flags": FLAGS}))
    for number in range(50):
        unit = f"user-{number}"
        for flag in ("half", "targeted-half", "by-company", "pro"):
            context = {"plan": "pro" if number % 2 else "free", "company": number}
            expected = client.peek(flag, {"unit": unit, **context})
            said = site.one(flag, {"targetingKey": unit, **context}).json
            assert (said["variant"], said["value"]) == (expected.variant, expected.value)
            assert said["metadata"]["version"] == expected.version


def test_a_variant_that_has_tripped_is_not_served(site):
    said = site.one("guarded").json
    assert (said["value"], said["reason"], said["metadata"]["reason"]) == ("o", "DISABLED", "GUARD")


def test_what_is_held_at_an_earlier_step_is_served_so(site):
    assert {site.one("held", {"targetingKey": f"user-{number}"}).json["value"] for number in range(20)} == {False}


def test_a_ramp_goes_by_the_service_s_clock(site):
    assert NOW_MS > 0
    assert site.one("ramp").json["value"] is True


def test_enrolments_in_the_context_count(site):
    assert site.one("beta", {"targetingKey": "u", "enrolments": {"beta": True}}).json["value"] is True


def test_a_flag_that_is_not_there_is_a_404(site):
    answer = site.one("nope")
    assert (answer.status, answer.json["key"], answer.json["errorCode"]) == (404, "nope", "FLAG_NOT_FOUND")


def test_an_edit_is_answered_at_once(site):
    assert site.one("on").json["value"] is True
    document = json.loads(site.path.read_text())
    document["flags"]["on"]["enabled"] = False
    site.edit(json.dumps(document))
    assert site.one("on").json["value"] is False


# -- contexts


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"context": NaN}', b"\xff", b"[" * 60_000])
def test_a_body_that_is_not_a_json_object_is_a_parse_error(site, body):
    assert site.one("on", body=body).json["errorCode"] == "PARSE_ERROR"
    assert site.all(body=body).json["errorCode"] == "PARSE_ERROR"


@pytest.mark.parametrize(
    "context",
    ["u", [], 7, {"targetingKey": 7}, {"targetingKey": True}, {"targetingKey": ""}, {"targetingKey": "x" * 1025}],
)
def test_a_context_that_cannot_be_one_is_invalid(site, context):
    for answer in (site.one("on", context), site.all(context)):
        assert (answer.status, answer.json["errorCode"]) == (400, "INVALID_CONTEXT")


@pytest.mark.parametrize(
    "body", [b"{}", b'{"context": null}', b'{"context": {}}', b'{"context": {"targetingKey": null}}']
)
def test_a_flag_that_needs_no_unit_is_answered_without_one(site, body):
    assert site.one("on", body=body).json["value"] is True
    assert site.one("by-company", body=b'{"context": {"company": 7}}').json["value"] is True


@pytest.mark.parametrize("context", [{}, {"unit": "metric"}])
def test_a_flag_that_is_dealt_out_by_unit_asks_for_one(site, context):
    answer = site.one("half", context)
    assert (answer.status, answer.json["errorCode"]) == (400, "TARGETING_KEY_MISSING")
    assert site.one("targeted-half", {"plan": "pro"}).json["value"] is True
    assert site.one("half-of-pro", {**context, "plan": "pro"}).json["errorCode"] == "TARGETING_KEY_MISSING"
    assert site.one("half-of-pro", {**context, "plan": "free"}).json["value"] is False


def test_a_flag_in_a_layer_asks_for_the_unit_that_the_layer_is_dealt_out_by(site):
    document = json.loads(site.path.read_text())
    site.edit(json.dumps({**document, "layers": {"l": {"slots": {"by-company": [0, 50]}}}}))
    assert site.one("by-company", {"company": 7}).json["errorCode"] == "TARGETING_KEY_MISSING"


# -- all flags


def test_all_flags_are_answered_in_the_order_of_the_definitions(site):
    answer = site.all({"targetingKey": "u", "plan": "pro"})
    assert answer.status == 200
    assert [flag["key"] for flag in answer.json["flags"]] == list(FLAGS)
    assert answer.json["metadata"] == {"flagSetId": "production"}
    assert {key: value for key, value in values(answer).items() if key in ("pro", "secret", "int")} == {
        "pro": True,
        "secret": True,
        "int": 7,
    }


def test_a_flag_that_cannot_be_answered_costs_the_others_nothing(site):
    flags = {flag["key"]: flag for flag in site.all({}).json["flags"]}
    assert flags["half"]["errorCode"] == "TARGETING_KEY_MISSING"
    assert flags["on"]["value"] is True


def test_unchanged_answers_are_a_304_until_flags_context_or_key_change(site):
    first = site.all()
    etag = first.headers["etag"]
    for sent in (etag, f"W/{etag}", f'"other", {etag}'):
        again = site.all(headers={**READ, "If-None-Match": sent})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    known = {"If-None-Match": etag}
    assert site.all({"targetingKey": "u", "plan": "pro"}, {**READ, **known}).status == 200
    assert site.all(headers={**BROWSER, **known}).status == 200
    site.edit(json.dumps({"schema": 1, "flags": {**FLAGS, "off": {"default": "on", "client": True}}}))
    assert site.all(headers={**READ, **known}).status == 200


def test_answers_are_for_one_asker_and_asked_for_anew(site):
    for answer in (site.all(), site.one("on"), site.one("nope")):
        assert answer.headers["cache-control"] == "private, no-cache"
        assert answer.headers["vary"] == "Origin, Authorization, X-API-Key"


# -- keys


@pytest.mark.parametrize("headers", [READ, ADMIN, {"X-API-Key": "read-key"}])
def test_who_may_read_may_ask_about_every_flag(site, headers):
    assert site.one("secret", headers=headers).json["value"] is True
    assert "secret" in values(site.all(headers=headers))


@pytest.mark.parametrize("headers", [BROWSER, {"X-API-Key": "browser-key"}])
def test_a_browser_key_learns_of_the_flags_for_clients_only(site, headers):
    assert values(site.all(headers=headers)).keys() == FLAGS.keys() - {"secret"}
    hidden, missing = site.one("secret", headers=headers), site.one("nope", headers=headers)
    assert (hidden.status, missing.status) == (404, 404)
    assert hidden.body == missing.body.replace(b"nope", b"secret")


def test_a_browser_key_is_told_no_names_of_rules(site):
    context = {"targetingKey": "u", "plan": "pro"}
    assert site.one("pro", context).json["metadata"] == {"version": "7", "rule": "payers"}
    assert site.one("pro", context, BROWSER).json["metadata"] == {"version": "7"}
    assert b"payers" not in site.all(context, BROWSER).body


def test_a_browser_key_gets_answers_that_depend_on_hidden_flags(site):
    assert site.one("child", headers=BROWSER).json["value"] is True


def test_a_browser_key_opens_nothing_else(site):
    for path in ("/v1/definitions", "/v1/summary", "/v1/changes", "/v1/stream"):
        assert site.get(path, BROWSER).status == 401
    assert site.call("POST", "/v1/events", BROWSER, [b"{}"]).status == 401
    assert site.call("POST", "/v1/changes", BROWSER, [b"{}"]).status == 403
    assert site.get("/healthz", BROWSER).json["may"] == ["evaluate"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nonsense"}, {"X-API-Key": "nonsense"}])
def test_without_a_key_the_answer_is_401_and_nothing_is_read(site, headers):
    for answer in (site.one("on", headers=headers), site.all(headers=headers)):
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert site.unread == 1


def test_a_key_for_something_else_is_a_403(site):
    assert site.one("on", headers=WRITE).status == 403


def test_an_authorization_counts_more_than_an_api_key(site):
    assert site.one("on", headers={"Authorization": "Bearer nonsense", "X-API-Key": "read-key"}).status == 401


# -- pages


def preflight(site: Service, headers: dict[str, str]) -> Answer:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization", **headers}
    return site.call("OPTIONS", "/ofrep/v1/evaluate/flags", asked, [b""])


def test_a_page_on_the_list_may_ask_and_read_the_answer(site):
    before = preflight(site, SHOP)
    assert (before.status, before.body) == (204, b"")
    assert before.headers["access-control-allow-origin"] == "https://shop.example.com"
    assert before.headers["access-control-allow-methods"] == "POST"
    allowed = {name.strip().lower() for name in before.headers["access-control-allow-headers"].split(",")}
    assert allowed == {"authorization", "content-type", "if-none-match", "x-api-key"}
    for answer in (
        site.all(headers={**BROWSER, **SHOP}),
        site.one("on", headers={**BROWSER, **SHOP}),
        site.one("nope", headers={**BROWSER, **SHOP}),
        site.one("on", headers=SHOP),
        site.one("on", headers={**WRITE, **SHOP}),
    ):
        assert answer.headers["access-control-allow-origin"] == "https://shop.example.com"
        assert answer.headers["access-control-expose-headers"] == "ETag, Retry-After"
    etag = site.all(headers={**BROWSER, **SHOP}).headers["etag"]
    unchanged = site.all(headers={**BROWSER, **SHOP, "If-None-Match": etag})
    assert (unchanged.status, unchanged.headers["access-control-allow-origin"]) == (304, "https://shop.example.com")


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "http://shop.example.com", "https://shop.example.com.evil.com", "null", ""]
)
def test_any_other_page_is_refused_whatever_key_it_has(site, origin):
    for answer in (preflight(site, {"Origin": origin}), site.all(headers={**READ, "Origin": origin})):
        assert answer.status == 403
        assert not any(name.startswith("access-control-") for name in answer.headers)
        assert "Origin" in answer.headers["vary"]


def test_no_answer_says_anybody_or_mentions_credentials(site):
    for answer in (preflight(site, SHOP), site.all(headers={**BROWSER, **SHOP}), site.all()):
        assert "*" not in answer.headers.get("access-control-allow-origin", "")
        assert "access-control-allow-credentials" not in answer.headers
    assert "access-control-allow-origin" not in site.all().headers


def test_other_addresses_let_no_page_read_them(site):
    for path in ("/v1/definitions", "/healthz"):
        answer = site.get(path, {**READ, **SHOP})
        assert not any(name.startswith("access-control-") for name in answer.headers)


# -- bounds


def test_a_context_over_the_limit_is_a_413_and_not_read(site):
    answer = site.one("on", headers={**READ, "Content-Length": str(MAX_CONTEXT_BYTES + 1)}, body=b"x")
    assert (answer.status, site.unread) == (413, 1)
    assert site.all(body=b" " * (MAX_CONTEXT_BYTES + 1)).status == 413


def test_a_compressed_context_is_a_415(site):
    assert site.one("on", headers={**READ, "Content-Encoding": "gzip"}).status == 415


def test_browser_keys_together_have_a_rate_and_read_keys_go_on(tmp_path):
    site = Service(tmp_path, browser_requests_per_s=2)
    try:
        answers = [site.one("on", headers={**BROWSER, **SHOP}) for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 429, 429]
        assert answers[-1].headers["retry-after"] == "1"
        assert answers[-1].headers["access-control-allow-origin"] == "https://shop.example.com"
        assert site.one("on", headers={"Authorization": "Bearer nonsense"}).status == 401
        assert site.one("on").status == 200
    finally:
        site.service.close()


def test_an_allowance_fills_up_again_and_holds_what_a_second_brings():
    now_s = [0.0]
    allowance = Allowance(2, lambda: now_s[0])
    assert [allowance.take() for _ in range(3)] == [0.0, 0.0, 0.5]
    now_s[0] = 0.5
    assert [allowance.take() for _ in range(2)] == [0.0, 0.5]
    now_s[0] = 3600.0
    assert [allowance.take() for _ in range(3)] == [0.0, 0.0, 0.5]


def test_less_than_one_request_a_second_is_one_every_few_seconds():
    now_s = [0.0]
    allowance = Allowance(0.1, lambda: now_s[0])
    assert [allowance.take() for _ in range(2)] == [0.0, 10.0]
    now_s[0] = 10.0
    assert allowance.take() == 0.0


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_another_method_is_a_405(site, method):
    assert site.call(method, "/ofrep/v1/evaluate/flags", READ, [b""]).status == 405


def test_the_configuration_that_the_protocol_no_longer_has_is_a_404(site):
    assert site.get("/ofrep/v1/configuration", READ).status == 404
