"""Sources: the contract of all of them, and what is special about each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from pathlib import Path

import pytest
import responses
from loopback import Call, refusing, serving
from redises import needs_redis, redis_server

from flagkit.errors import ConfigError, FetchError
from flagkit.sources import Cached, Fetched, File, Http, NotModified, PostHog, Redis, Source, Static, Unleash
from flagkit.testing import SourceContract, SourceStage

DOCUMENT = SourceContract.DOCUMENT
JSON = {"Content-Type": "application/json"}
KEY = "sk-read-0123456789"
URL = "https://flags.example.com"


def fetch(source: Source, validator: str | None = None, *, deadline_s: float = 5, max_bytes: int = 1 << 20):
    return source.fetch(validator, deadline_s=deadline_s, max_bytes=max_bytes)


def failure(source: Source, validator: str | None = None, **bounds: float) -> FetchError:
    with pytest.raises(FetchError) as raised:
        fetch(source, validator, **bounds)
    return raised.value


# -- the contract


@contextmanager
def http_stage(_: Path, make: Callable[[str], Source] = lambda url: Http(url, key=KEY)) -> Iterator[SourceStage]:
    served: list[bytes | None] = [DOCUMENT]
    silent: list[bool] = []

    def script(call: Call) -> None:
        if silent:
            call.hang()
        document = served[-1]
        etag = f'"{hash(document)}"'
        if document is None:
            call.hang_up()
        elif call.headers.get("if-none-match") == etag:
            call.answer(304)
        else:
            call.answer(200, document, {**JSON, "ETag": etag})

    with serving(script) as server:
        source = make(server.url)
        yield SourceStage(source, served.append, (KEY,), lambda: silent.append(True))
        source.close()


def posthog_stage(directory: Path) -> AbstractContextManager[SourceStage]:
    return http_stage(directory, lambda url: PostHog(url, project_token="phc_" + KEY, personal_key=KEY))


def unleash_stage(directory: Path) -> AbstractContextManager[SourceStage]:
    return http_stage(directory, lambda url: Unleash(url, token=KEY, register=False))


@contextmanager
def file_stage(directory: Path) -> Iterator[SourceStage]:
    path = directory / "flags.json"
    path.write_bytes(DOCUMENT)
    yield SourceStage(File(path), lambda data: path.unlink() if data is None else path.write_bytes(data))


@contextmanager
def static_stage(_: Path) -> Iterator[SourceStage]:
    yield SourceStage(Static(DOCUMENT))


@contextmanager
def cached_stage(directory: Path) -> Iterator[SourceStage]:
    with http_stage(directory) as inner:
        yield inner._replace(source=Cached(inner.source, directory / "state"))


@contextmanager
def redis_stage(_: Path) -> Iterator[SourceStage]:
    with redis_server("--requirepass", KEY) as server:
        source = Redis(f"redis://:{KEY}@127.0.0.1:{server.port}")
        client = source.client(5)

        def put(data: bytes | None) -> None:
            client.delete(source.key) if data is None else client.set(source.key, data)

        put(DOCUMENT)
        yield SourceStage(source, put, (KEY,))
        source.close()
        client.close()


class TestEverySource(SourceContract):
    """The contract that is shipped for other people's sources, and a little more of ours."""

    @pytest.fixture(
        params=[
            pytest.param(http_stage, id="http"),
            pytest.param(file_stage, id="file"),
            pytest.param(static_stage, id="static"),
            pytest.param(cached_stage, id="cached"),
            pytest.param(posthog_stage, id="posthog"),
            pytest.param(unleash_stage, id="unleash"),
            pytest.param(redis_stage, id="redis", marks=needs_redis),
        ]
    )
    def stage(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SourceStage]:
        with request.param(tmp_path) as ready:
            yield ready

    def test_ours_has_the_dialect_of_its_backend(self, stage: SourceStage) -> None:
        dialects = {PostHog: "posthog", Unleash: "unleash"}
        assert stage.source.dialect == dialects.get(type(stage.source), "native")

    def test_ours_has_a_name_for_each_document(self, stage: SourceStage) -> None:
        assert fetch(stage.source).validator is not None

    def test_ours_names_itself_when_its_place_is_gone_which_does_not_last(self, stage: SourceStage) -> None:
        if stage.serve is not None:
            stage.serve(None)
            error = failure(stage.source)
            assert stage.source.name in str(error)
            assert not error.lasting


@pytest.mark.parametrize("dialect", ["", None, 7])
@pytest.mark.parametrize(
    "make", [lambda d: Http(URL, dialect=d), lambda d: File("f", dialect=d), lambda d: Static({}, dialect=d)]
)
def test_a_dialect_that_is_no_name_is_a_config_error(make, dialect: object) -> None:
    with pytest.raises(ConfigError) as raised:
        make(dialect)
    assert raised.value.field == "dialect"


# -- http


@contextmanager
def answering(status: int, body: bytes = DOCUMENT, **headers: str) -> Iterator[Http]:
    with responses.RequestsMock() as mocked:
        mocked.get(f"{URL}/v1/definitions", status=status, body=body, headers={**JSON, **headers})
        yield Http(URL)


def test_http_gives_the_bytes_with_the_validator_and_the_servers_clock() -> None:
    with answering(200, ETag='W/"7"', Date="Mon, 23 Nov 2026 10:00:00 GMT") as source:
        assert fetch(source) == Fetched(DOCUMENT, 'W/"7"', 1_795_428_000_000)


def test_http_confirms_with_the_servers_clock_too() -> None:
    with answering(304, b"", Date="Mon, 23 Nov 2026 10:00:00 GMT") as source:
        assert fetch(source, '"7"') == NotModified(1_795_428_000_000)


def test_http_counts_a_304_that_nobody_asked_for_as_a_failure() -> None:
    with answering(304, b"") as source:
        assert failure(source).reason == "spurious_304"


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/geo+json"]
)
def test_http_takes_json_media_types(media_type: str) -> None:
    with serving(lambda call: call.answer(200, DOCUMENT, {"Content-Type": media_type})) as server:
        source = Http(server.url)
        assert fetch(source).data == DOCUMENT
        source.close()


@pytest.mark.parametrize("headers", [{"Content-Type": "text/html"}, {"Content-Type": "text/plain"}, {}])
def test_http_refuses_what_is_not_called_json(headers: dict[str, str]) -> None:
    with serving(lambda call: call.answer(200, b"<html>Log in to the network</html>", headers)) as server:
        source = Http(server.url)
        assert failure(source).reason == "not_json"
        source.close()


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 410, 418])
def test_http_says_that_a_refusal_lasts(status: int) -> None:
    with answering(status) as source:
        error = failure(source)
    assert (error.reason, error.lasting) == (f"http_{status}", True)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 204, 206, 300])
def test_http_says_that_an_overload_or_an_odd_answer_passes(status: int) -> None:
    with answering(status, b"", **{"Retry-After": "7"}) as source:
        error = failure(source)
    assert (error.reason, error.lasting, error.retry_after_s) == (f"http_{status}", False, 7.0)


def test_http_names_what_the_network_did() -> None:
    with refusing() as url:
        error = failure(Http(url, key=KEY))
    assert (error.reason, error.lasting) == ("refused", False)
    assert str(error) == f"{url}/v1/definitions: connection refused"
    assert error.__cause__ is None


def test_http_sends_only_the_validator_it_is_handed() -> None:
    with serving(lambda call: call.answer(200, DOCUMENT, {**JSON, "ETag": '"7"'})) as server:
        source = Http(f"{server.url}/team/flags.json")
        fetch(source)
        fetch(source)
        fetch(source, '"6"')
        source.close()
    assert [call.headers.get("if-none-match") for call in server.calls] == [None, None, '"6"']
    assert {call.path for call in server.calls} == {"/team/flags.json"}


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"url": "http://flags.example.com"}, "url"),
        ({"url": URL, "key": ""}, "key"),
        ({"url": URL, "ca_file": "/nowhere"}, "ca_file"),
    ],
)
def test_http_names_the_field_of_a_wrong_argument(settings: dict[str, str], field: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Http(**settings)
    assert raised.value.field == field


# -- file


def test_a_file_may_appear_later(tmp_path: Path) -> None:
    source = File(str(tmp_path / "flags.json"))
    assert failure(source).reason == "missing"
    (tmp_path / "flags.json").write_bytes(DOCUMENT)
    assert fetch(source).data == DOCUMENT


def test_a_swapped_symbolic_link_is_a_change(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(DOCUMENT)
    os.utime(tmp_path / "one", ns=(1, 1))
    os.utime(tmp_path / "two", ns=(1, 1))
    link = tmp_path / "flags.json"
    link.symlink_to("one")
    source = File(link)
    validator = fetch(source).validator
    link.unlink()
    link.symlink_to("two")
    assert isinstance(fetch(source, validator), Fetched)


def test_a_file_of_the_same_size_written_later_is_a_change(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_bytes(b"1")
    source = File(path)
    validator = fetch(source).validator
    path.write_bytes(b"2")
    os.utime(path, ns=(5, 5))
    assert fetch(source, validator).data == b"2"


def test_a_directory_or_a_pipe_is_not_a_file_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert failure(File(tmp_path)).reason == "not_a_file"
    assert failure(File(tmp_path / "pipe")).reason == "not_a_file"


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_bytes(DOCUMENT)
    assert failure(File(path / "inside-a-file")).reason == "unreadable"
    if os.getuid() != 0:
        path.chmod(0)
        assert failure(File(path)).reason == "unreadable"


@pytest.mark.parametrize("path", ["", None, 7, b"flags.json", "a\0b"])
def test_a_path_that_is_none_is_a_config_error(path: object) -> None:
    with pytest.raises(ConfigError) as raised:
        File(path)
    assert raised.value.field == "path"


# -- static


class Word(StrEnum):
    ON = "on"


def test_static_takes_a_mapping_text_or_bytes() -> None:
    assert json.loads(fetch(Static({"schema": 1, "a": Word.ON})).data) == {"schema": 1, "a": "on"}
    assert fetch(Static('{"a": "\xe9"}')).data == '{"a": "\xe9"}'.encode()
    assert fetch(Static(DOCUMENT)).data == DOCUMENT


def test_static_is_not_changed_by_changing_the_mapping() -> None:
    given = {"flags": {}}
    source = Static(given)
    given["flags"] = {"a": 1}
    assert fetch(source).data == b'{"flags": {}}'


CYCLE: dict[str, object] = {}
CYCLE["self"] = CYCLE


@pytest.mark.parametrize("given", [None, 7, [], bytearray(b"{}"), {"a": float("nan")}, {"a": {1, 2}}, CYCLE, "\ud800"])
def test_static_refuses_what_has_no_json_form(given: object) -> None:
    with pytest.raises(ConfigError) as raised:
        Static(given)
    assert raised.value.field == "definitions"


def test_static_leaves_judging_the_document_to_its_parser() -> None:
    assert fetch(Static("not json")).data == b"not json"


def test_fetching_locally_loads_no_http_library(tmp_path: Path) -> None:
    program = (
        "import sys; from flagkit.sources import Static\n"
        "Static({}).fetch(None, deadline_s=1, max_bytes=99)\n"
        "print('requests' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
