"""Addresses and keys are checked, headers read with suspicion, and nothing heavy is loaded early."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Call, serving
from requests.structures import CaseInsensitiveDict
from wires import KEY, get, wire_to

from flagkit.errors import ConfigError
from flagkit.http import NoReply, Secret, Wire
from flagkit.http.reply import heading

# -- what is loaded when


def test_the_http_library_is_imported_with_the_first_http_end_and_not_before_or_after() -> None:
    program = (
        "import sys, flagkit.http, flagkit.sources as s, flagkit.sinks as t\n"
        "s.Static({}); s.File('x'); t.Log(); t.Memory()\n"
        "print([m for m in ('requests', 'urllib3', 'ssl', 'uuid', 'email.utils') if m in sys.modules])\n"
        "s.Http('https://flags.example.com', key='k')\n"
        "print('requests' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\nTrue\n"


# -- secrets


def test_a_secret_shows_six_digits_of_its_hash_and_never_itself() -> None:
    secret = Secret(KEY)
    for text in (repr(secret), str(secret), f"{secret}", f"{secret:>40}", f"{[secret]}", "%s" % secret):  # noqa: UP031
        assert KEY not in text
        assert secret.digest in text
    assert len(secret.digest) == 6
    assert secret.reveal() == KEY
    with pytest.raises(TypeError):
        vars(secret)


def test_a_secret_refuses_to_be_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret(KEY))


@pytest.mark.parametrize(
    "key", ["", f"{KEY}\r\nX: y", f"{KEY}\n", f" {KEY}", f"{KEY}\x00", f"{KEY}\u0416", f"{KEY}\x7f", 7, b"bytes"]
)
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key: object) -> None:
    with pytest.raises(ConfigError) as raised:
        Wire("https://flags.example.com", "/x", key=key)
    assert raised.value.field == "key"
    assert KEY not in str(raised.value)


# -- addresses


@pytest.mark.parametrize(
    ("url", "spoken_to"),
    [
        ("https://flags.example.com", "https://flags.example.com/v1/definitions"),
        ("https://flags.example.com/", "https://flags.example.com/v1/definitions"),
        ("https://cdn.example.com/team/flags.json", "https://cdn.example.com/team/flags.json"),
        ("http://127.0.0.1:8400", "http://127.0.0.1:8400/v1/definitions"),
        ("http://127.8.9.1", "http://127.8.9.1/v1/definitions"),
        ("http://[::1]:8400", "http://[::1]:8400/v1/definitions"),
        ("http://localhost", "http://localhost/v1/definitions"),
    ],
)
def test_an_address_without_a_path_is_completed_and_any_other_kept(url: str, spoken_to: str) -> None:
    assert Wire(url, "/v1/definitions").url == spoken_to


@pytest.mark.parametrize(
    "url",
    [
        "",
        "flags.example.com",
        "ftp://flags.example.com",
        "https://",
        "https://flags.example.com:port",
        "https://flags.example.com:99999",
        "https://[::1",
        "https://flags.example.com/a b",
        "https://flags.example.com/a\r\nb",
        "https://flags.example.com\\@evil.example",
        "https://flags.example.com/" + "x" * 2048,
        "http://flags.example.com",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "https://flags.example.com/#there",
        None,
        b"https://flags.example.com",
    ],
)
def test_an_address_that_is_malformed_or_in_the_clear_is_refused(url: object) -> None:
    with pytest.raises(ConfigError) as raised:
        Wire(url, "/v1/definitions")
    assert raised.value.field == "url"


@pytest.mark.parametrize(
    "url", [f"https://user:{KEY}@flags.example.com", f"https://flags.example.com/?key={KEY}", f"htp://u:{KEY}@host"]
)
def test_a_credential_in_an_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Wire(url, "/v1/definitions")
    assert KEY not in str(raised.value)


def test_http_beyond_loopback_has_to_be_asked_for() -> None:
    assert Wire("http://flags.internal", "/x", allow_insecure_http=True).url == "http://flags.internal/x"


@pytest.mark.parametrize("content", [None, "", "not a certificate", "\xe9"])
def test_a_ca_file_without_certificates_is_refused_at_construction(tmp_path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        Wire("https://flags.example.com", "/x", ca_file=str(path))
    assert raised.value.field == "ca_file"


# -- what is sent


def test_a_request_carries_the_key_the_validator_and_what_can_be_decoded() -> None:
    with serving(lambda call: call.answer(200, b"{}")) as server:
        get(wire_to(server.url, key=KEY), etag='"v1"')
    (call,) = server.calls
    assert (call.method, call.path) == ("GET", "/v1/definitions")
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.headers["if-none-match"] == '"v1"'
    assert call.headers["accept-encoding"] == "gzip"
    assert call.headers["user-agent"].startswith("flagkit/")
    assert "cookie" not in call.headers


def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    for name, value in {
        "HOME": str(tmp_path),
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
        "REQUESTS_CA_BUNDLE": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    with serving(lambda call: call.answer(200, b"{}")) as server:
        assert get(wire_to(server.url)).body == b"{}"
    assert "authorization" not in server.calls[0].headers


def test_cookies_are_not_kept() -> None:
    with serving(lambda call: call.answer(200, b"{}", {"Set-Cookie": "a=b; Path=/"})) as server:
        wire = wire_to(server.url)
        get(wire)
        get(wire)
    assert "cookie" not in server.calls[1].headers


# -- headers that come back

DATE = "Mon, 23 Nov 2026 10:00:00 GMT"
DATE_MS = 1_795_428_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0),
        (" 5 ", 5.0),
        ("0", 0.0),
        ("Mon, 23 Nov 2026 10:01:30 GMT", 90.0),
        ("9" * 200, 86_400.0),
        ("Tue, 23 Nov 2027 10:00:00 GMT", 86_400.0),
        ("-5", None),
        ("Mon, 23 Nov 2026 09:00:00 GMT", None),
        ("1.5", None),
        ("\u0665", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_on_the_servers_clock(text: str, seconds: float | None) -> None:
    assert heading(503, CaseInsensitiveDict({"Retry-After": text, "Date": DATE})).retry_after_s == seconds


def test_a_retry_date_without_the_servers_own_date_is_ignored() -> None:
    assert heading(503, CaseInsensitiveDict({"Retry-After": DATE})).retry_after_s is None


def test_the_servers_clock_is_its_date_plus_the_time_a_cache_kept_the_answer() -> None:
    assert heading(200, CaseInsensitiveDict({"Date": DATE})).server_ms == DATE_MS
    assert heading(200, CaseInsensitiveDict({"Date": DATE, "Age": "60"})).server_ms == DATE_MS + 60_000
    assert heading(200, CaseInsensitiveDict({"Date": "yesterday", "Age": "60"})).server_ms is None
    assert heading(200, CaseInsensitiveDict({})).server_ms is None


@pytest.mark.parametrize("etag", ["", '"\xe9"', '"a\r\n b"', '"' + "x" * 600 + '"'])
def test_a_validator_that_cannot_be_sent_back_is_absent(etag: str) -> None:
    assert heading(200, CaseInsensitiveDict({"ETag": etag})).etag is None


@settings(deadline=None)  # the first example imports email.utils
@given(st.dictionaries(st.sampled_from(["Date", "Age", "Retry-After", "ETag", "Content-Type", "Location"]), st.text()))
def test_no_header_value_makes_reading_headers_fail(headers: dict[str, str]) -> None:
    reply = heading(200, CaseInsensitiveDict(headers))
    assert reply.retry_after_s is None or 0 <= reply.retry_after_s <= 86_400


# -- secrets on the wire


def test_the_key_shows_in_no_log_and_no_exception_whatever_fails(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    scripts = [
        Call.hang_up,
        lambda call: call.answer(200, b"x", {"Content-Encoding": "gzip"}),
        lambda call: call.answer(302, b"", {"Location": "//x"}),
    ]
    for script in scripts:
        with serving(script) as server:
            wire = wire_to(server.url, key=KEY)
            with pytest.raises(NoReply) as raised:
                get(wire)
            seen: BaseException | None = raised.value
            while seen is not None:
                assert KEY not in f"{seen!r} {vars(seen)}"
                seen = seen.__cause__ or seen.__context__
            assert KEY not in repr(wire)
    assert KEY not in caplog.text
