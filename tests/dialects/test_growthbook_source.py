"""The source GrowthBook: what it asks for, how it takes the encryption off, and what it never shows."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import responses

from flagkit import Client
from flagkit.errors import ConfigError, FetchError
from flagkit.sources import Fetched, GrowthBook, NotModified, Source

HOST, KEY = "https://gb.example.com", "sdk-abc123"
URL = f"{HOST}/api/features/{KEY}"
SECRET = base64.b64encode(b"sixteen bytes ok").decode()
FEATURES = {"f": {"defaultValue": True}}


@contextmanager
def answering(body: Any, status: int = 200, **headers: str) -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mocked:
        sent = {"Content-Type": "application/json", **headers}
        mocked.get(URL, status=status, body=json.dumps(body), headers=sent)
        yield mocked


def fetch(source: Source, validator: str | None = None) -> Any:
    return source.fetch(validator, deadline_s=5, max_bytes=1 << 20)


def sealed(text: str, key: str = SECRET) -> str:
    """``text`` as GrowthBook encrypts it."""
    pytest.importorskip("cryptography", reason="the extra growthbook is not installed")
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.padding import PKCS7

    padder, start = PKCS7(128).padder(), b"0123456789abcdef"
    encryptor = Cipher(algorithms.AES128(base64.b64decode(key)), modes.CBC(start)).encryptor()
    data = encryptor.update(padder.update(text.encode()) + padder.finalize()) + encryptor.finalize()
    return f"{base64.b64encode(start).decode()}.{base64.b64encode(data).decode()}"


def test_it_is_a_source_of_growthbook_s_dialect() -> None:
    source = GrowthBook(HOST, client_key=KEY)
    assert isinstance(source, Source)
    assert (source.dialect, source.local, source.name) == ("growthbook", False, URL)


@pytest.mark.parametrize("host", [HOST, HOST + "/", HOST + "//"])
def test_it_asks_for_the_features_of_its_connection(host: str) -> None:
    with answering({"features": FEATURES}, ETag='"1"') as mocked:
        answer = fetch(GrowthBook(host, client_key=KEY))
        assert json.loads(answer.data) == {"features": FEATURES}
        assert answer.validator == '"1"'
        assert "Authorization" not in mocked.calls[0].request.headers


def test_a_proxy_may_be_under_a_path() -> None:
    assert GrowthBook("https://example.com/growthbook", client_key=KEY).name.startswith(
        "https://example.com/growthbook/api"
    )


def test_what_has_not_changed_is_not_sent_again() -> None:
    with answering({"features": FEATURES}, 304) as mocked:
        assert isinstance(fetch(GrowthBook(HOST, client_key=KEY), '"1"'), NotModified)
        assert mocked.calls[0].request.headers["If-None-Match"] == '"1"'


def test_a_key_that_growthbook_does_not_know_is_a_lasting_failure() -> None:
    with answering({"status": 404, "error": "no such key"}, 404), pytest.raises(FetchError) as raised:
        fetch(GrowthBook(HOST, client_key=KEY))
    assert (raised.value.reason, raised.value.lasting) == ("http_404", True)


def test_features_and_groups_that_come_encrypted_are_handed_on_decrypted() -> None:
    document = {
        "status": 200,
        "features": {},
        "encryptedFeatures": sealed(json.dumps(FEATURES)),
        "encryptedSavedGroups": sealed('{"g": ["é"]}'),
        "dateUpdated": "2026-11-28T00:00:00Z",
    }
    with answering(document, ETag='"1"'):
        answer = fetch(GrowthBook(HOST, client_key=KEY, decryption_key=SECRET))
    assert isinstance(answer, Fetched)
    assert answer.validator == '"1"'
    assert json.loads(answer.data) == {
        "status": 200,
        "features": FEATURES,
        "savedGroups": {"g": ["é"]},
        "dateUpdated": "2026-11-28T00:00:00Z",
    }


def test_a_connection_without_encryption_may_have_a_key_all_the_same() -> None:
    pytest.importorskip("cryptography", reason="the extra growthbook is not installed")
    with answering({"features": FEATURES}):
        assert json.loads(fetch(GrowthBook(HOST, client_key=KEY, decryption_key=SECRET)).data)["features"] == FEATURES


def test_encrypted_features_without_a_key_say_what_is_missing() -> None:
    with answering({"features": {}, "encryptedFeatures": "abc.def"}), pytest.raises(FetchError) as raised:
        fetch(GrowthBook(HOST, client_key=KEY))
    assert (raised.value.reason, raised.value.lasting) == ("encrypted", True)


@pytest.mark.parametrize("encrypted", ["", "x", "!.!", "AAAA.AAAA", "other key"])
def test_what_cannot_be_decrypted_is_a_lasting_failure_that_shows_nothing(encrypted: str) -> None:
    pytest.importorskip("cryptography", reason="the extra growthbook is not installed")
    other = base64.b64encode(b"another 16 bytes").decode()
    text = sealed(json.dumps(FEATURES), other) if encrypted == "other key" else encrypted or "."
    with answering({"features": {}, "encryptedFeatures": text}), pytest.raises(FetchError) as raised:
        fetch(GrowthBook(HOST, client_key=KEY, decryption_key=SECRET))
    assert (raised.value.reason, raised.value.lasting) == ("undecryptable", True)
    assert raised.value.__context__ is None
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("key", ["", "a b", "a/b", "../x", "..", "sdk-abc?x=1", "x" * 201, None, 5, b"sdk"])
def test_a_client_key_that_is_none_is_refused(key: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        GrowthBook(HOST, client_key=key)
    assert raised.value.field == "client_key"


def test_a_secret_api_key_is_not_taken_for_a_client_key_and_not_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        GrowthBook(HOST, client_key="secret_admin_1234")
    assert "1234" not in str(raised.value)


@pytest.mark.parametrize(
    "host", [None, "", "gb.example.com", "http://gb.example.com", "https://user:pw@x.com", "https://x.com?a"]
)
def test_an_address_that_is_none_is_refused_and_named_as_the_argument_is(host: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        GrowthBook(host, client_key=KEY)
    assert raised.value.field == "api_host"
    assert "pw" not in str(raised.value)


@pytest.mark.parametrize("key", ["", "short", "c2hvcnQ=", SECRET + "AAAA", "ünd", 5])
def test_a_decryption_key_that_is_none_is_refused_and_not_shown(key: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        GrowthBook(HOST, client_key=KEY, decryption_key=key)
    assert raised.value.field == "decryption_key"
    assert not key or str(key) not in str(raised.value).removeprefix("decryption_key")


def test_the_decryption_key_is_shown_nowhere_and_tells_sources_apart() -> None:
    pytest.importorskip("cryptography", reason="the extra growthbook is not installed")
    source = GrowthBook(HOST, client_key=KEY, decryption_key=SECRET)
    shown = f"{source!r} {source.name} {source.identity} {source._decryption!r}"
    assert SECRET not in shown
    assert source.identity != GrowthBook(HOST, client_key=KEY).identity


def test_a_client_answers_from_it() -> None:
    with answering({"features": FEATURES}):
        client = Client(source=GrowthBook(HOST, client_key=KEY), sink=None)
        with client:
            assert client.wait_ready(5)
            assert client.enabled("f", "user-1")
