"""The official OFREP provider of the OpenFeature SDK, against a real service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason
from processes import KEY, Service

from flagkit import Client, sources

USER = EvaluationContext("user-1", {"plan": "pro"})
YES = {"attribute": "plan", "op": "in", "values": ["pro"]}
FLAGS = {
    "pro": {"rules": [{"name": "payers", "when": [YES], "serve": "on"}], "client": True, "version": "7"},
    "half": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}], "client": True},
    "size": {"variants": {"small": 10, "large": 50}, "off": "small", "default": "large", "client": True},
    "layout": {"variants": {"wide": {"columns": 4}}, "off": "wide", "client": True},
    "held": {"default": "on", "exclude": [YES]},
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("ofrep"))
    service.publish(FLAGS, "1")
    service.start(browser_keys=["page"], browser_requests_per_s=0.1)
    yield service
    service.kill()


def asking(service: Service, headers: dict[str, str]) -> Iterator[OpenFeatureClient]:
    provider = OFREPProvider(service.url, headers_factory=lambda: headers)
    api.set_provider_and_wait(provider, "ofrep")
    yield api.get_client("ofrep")
    api.shutdown()
    provider.session.close()


@pytest.fixture
def reader(service: Service) -> Iterator[OpenFeatureClient]:
    yield from asking(service, {"Authorization": f"Bearer {KEY}"})


@pytest.fixture
def page(service: Service) -> Iterator[OpenFeatureClient]:
    yield from asking(service, {"X-API-Key": "page"})


def test_typed_answers_arrive_with_reason_variant_and_metadata(reader: OpenFeatureClient) -> None:
    details = reader.get_boolean_details("pro", False, USER)
    assert (details.value, details.variant, details.reason) == (True, "on", Reason.TARGETING_MATCH)
    assert details.flag_metadata == {"version": "7", "rule": "payers"}
    assert reader.get_integer_value("size", 0, USER) == 50
    assert reader.get_object_value("layout", {}, USER) == {"columns": 4}
    held = reader.get_boolean_details("held", True, USER)
    assert (held.value, held.error_code, held.flag_metadata["reason"]) == (False, None, "EXCLUDED")


def test_every_unit_gets_what_flagkit_gives_it_in_process(reader: OpenFeatureClient) -> None:
    client = Client(source=sources.Static({"schema": 1, "flags": FLAGS}))
    for number in range(40):
        answer = reader.get_boolean_value("half", False, EvaluationContext(f"user-{number}"))
        assert answer is client.enabled("half", f"user-{number}")


@pytest.mark.parametrize(
    ("flag", "context", "code"),
    [
        ("nope", USER, ErrorCode.FLAG_NOT_FOUND),
        ("size", USER, ErrorCode.TYPE_MISMATCH),
        ("half", EvaluationContext(None, {"plan": "pro"}), ErrorCode.TARGETING_KEY_MISSING),
        ("pro", EvaluationContext("x" * 1025), ErrorCode.INVALID_CONTEXT),
    ],
)
def test_what_goes_wrong_has_openfeature_s_code(
    reader: OpenFeatureClient, flag: str, context: EvaluationContext, code: ErrorCode
) -> None:
    details = reader.get_boolean_details(flag, True, context)
    assert (details.value, details.error_code) == (True, code)


def test_a_browser_key_that_asks_too_often_is_told_to_wait(page: OpenFeatureClient) -> None:
    assert page.get_boolean_value("pro", False, USER) is True
    details = page.get_boolean_details("held", True, USER)
    assert (details.value, details.error_code) == (True, ErrorCode.GENERAL)
    assert str(details.error_message).startswith("Rate limited, retry after: ")
