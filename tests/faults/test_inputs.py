"""Rows F1 to F7: units, keys, names and attributes of every kind, and an environment that means no good."""

from __future__ import annotations

import json

import pytest

from tests.faults import answers
from tests.faults.stage import KEY, PRIVATE, Stage

UNITS = """
import uuid
class Named(str): ...
class Shy:
    def __str__(self): return "shy"
class Number(int): ...
given = {
    "str": "ada", "int": 7, "negative": -7, "uuid": uuid.UUID(int=7), "subclass": Named("ada"), "number": Number(7),
    "none": None, "bool": True, "float": 1.5, "nan": float("nan"), "bytes": b"ada", "list": ["ada"], "dict": {"id": 7},
    "object": Shy(), "empty": "", "2**63": 2**63, "long": "x" * 1025, "5 MB": "x" * 5_000_000, "surrogate": "\\ud800",
    "nul": "a\\0b", "right to left": "\\u202eevil", "line end": "a\\r\\nX: y", "unnormalised": "e\\u0301",
    "1024": "x" * 1024,
}
answer = {}
for name, unit in given.items():
    told = client.decide("half", flagkit.Context(unit))
    client.track("met", flagkit.Context(unit), value=1, name=name)
    answer[name] = told.error_code
"""
VALID = {
    "str": "ada",
    "int": "7",
    "negative": "-7",
    "uuid": "00000000-0000-0000-0000-000000000007",
    "subclass": "ada",
    "number": "7",
    "nul": "a\0b",
    "right to left": "\u202eevil",
    "line end": "a\r\nX: y",
    "unnormalised": "e\u0301",
    "1024": "x" * 1024,
}


def test_f01_f02_a_unit_is_what_the_manual_says_or_the_context_is_invalid(stage: Stage) -> None:
    app = stage.running(callers=0)
    app.may_lose, app.alone = {"invalid_context"}, False
    told = app.do(UNITS)
    assert {name for name, code in told.items() if code is None} == VALID.keys()
    assert {code for name, code in told.items() if name not in VALID} == {"INVALID_CONTEXT"}
    app.until(lambda: app.account["pending"] == 0)
    assert app.account["lost"] == {"invalid_context": len(told) - len(VALID)}
    events = [event for event in stage.server.stored.values() if event.get("name") == "met"]
    assert {event["properties"]["name"]: event["feature_flag.context.id"] for event in events} == VALID
    assert "shy" not in json.dumps(list(stage.server.stored.values()))
    log = (app.directory / "app.log").read_text()
    assert "evil" not in log
    assert "X: y" not in log


BAD_KEYS = ["a\r\nX: y", "a\nb", "a\0b", "schlüssel-\u20ac", "", " spaced", "deleted\x7f"]


def test_f03_a_key_that_no_header_can_carry_is_refused_and_not_shown(stage: Stage) -> None:
    app = stage.start()
    told = app.do(
        """
answer = []
for key in keys:
    for kind in (flagkit.Client, flagkit.sources.Http, flagkit.sinks.Http):
        try:
            kind(SETTINGS["url"], key=key)
        except flagkit.ConfigError as error:
            answer.append([error.field, bool(key) and (key in str(error) or key in repr(error))])
""",
        keys=BAD_KEYS,
    )
    assert told == [["key", False]] * 3 * len(BAD_KEYS)


def test_f04_a_key_prints_as_its_digest_and_is_not_pickled_or_copied(stage: Stage) -> None:
    app = stage.start()
    told = app.do("""
import copy, pickle
secret = client._feed._source._wire._key
answer = [repr(secret), str(secret), f"{secret}", f"{secret!s:>40}", "%s" % secret, repr([secret])]
answer.append(repr(client.__dict__))
for work in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps, vars):
    try:
        answer.append(repr(work(secret)))
    except TypeError as error:
        answer.append(str(error))
""")
    assert not [text for text in told if KEY in text or KEY[-4:] in text]


def test_f04_the_key_travels_in_one_header_only(stage: Stage) -> None:
    stage.running().sees(stage.server.publish())
    for asked in stage.server.asked:
        assert asked.headers["authorization"] == f"Bearer {KEY}"
        rest = {name: value for name, value in asked.headers.items() if name != "authorization"}
        assert KEY[-4:] not in f"{asked.path} {rest}"


def test_f05_the_environment_lends_no_password_and_no_proxy_and_takes_no_keys(stage: Stage) -> None:
    elsewhere = stage.serve()
    environment = f"""
import os
os.environ["HTTP_PROXY"] = os.environ["HTTPS_PROXY"] = os.environ["ALL_PROXY"] = "{elsewhere.url}"
os.environ["http_proxy"] = os.environ["https_proxy"] = os.environ["all_proxy"] = "{elsewhere.url}"
os.environ["REQUESTS_CA_BUNDLE"] = os.environ["CURL_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = "/nonexistent"
os.environ["SSLKEYLOGFILE"] = os.path.join(SETTINGS["directory"], "keys.txt")
with open(os.path.join(SETTINGS["directory"], ".netrc"), "w") as file:
    file.write("machine 127.0.0.1 login eve password swordfish\\n")
os.environ["NETRC"] = os.path.join(SETTINGS["directory"], ".netrc")
os.environ["HOME"] = SETTINGS["directory"]
"""
    app = stage.running(prelude=environment)
    app.sees(stage.server.publish())
    assert elsewhere.asked == []
    assert {asked.headers["authorization"] for asked in stage.server.asked} == {f"Bearer {KEY}"}
    assert not (app.directory / "keys.txt").exists()


def test_f06_of_a_context_the_unit_leaves_the_process_and_nothing_else(stage: Stage) -> None:
    app = stage.running()
    app.do("""
mine = {"unit": "ada", "email": PRIVATE, "nested": {"deep": [PRIVATE]}}
with flagkit.scope("ada", email=PRIVATE):
    client.enabled("vip"); client.track("order", value=1)
    client.explain("vip")
client.decide("vip", mine); client.track("order", mine, value=1)
client.value("no such flag", mine, default=None)
try:
    flagkit.Client(SETTINGS["url"], key=SETTINGS["key"], config=mine)
except flagkit.ConfigError:
    pass
""")
    app.alone = False
    app.until(lambda: app.account["pending"] == 0)
    assert PRIVATE not in json.dumps(list(stage.server.stored.values()))
    assert any(event["feature_flag.context.id"] == "ada" for event in stage.server.stored.values())


STRANGE = [
    "a\x1b[31mb",
    "__class__",
    "{0.__class__.__mro__}",
    "%s%n",
    "x" * 1_000_000,
    "a\r\nERROR fake line",
    "a\0b",
    "\u202e",
    "../../x",
]


def test_f07_flags_and_variants_with_strange_names_are_data(stage: Stage) -> None:
    strange = {name: {"variants": {name: 1, "off": 0}, "off": "off", "default": name} for name in STRANGE}
    stage.server.publish()
    app = stage.running()
    survive = {"number": {"variants": {"now": 2, "off": 0}, "off": "off", "default": "now"}}
    good = {f"f{number}": {"default": "on"} for number in range(50)}
    app.sees(stage.server.publish({**strange, **good, **survive}, replaces=True))
    told = app.do(
        """
answer = []
for name in names:
    decision = client.decide(name, name)
    client.enabled(name, "u"); client.track(name[:128], "u", value=1); client.explain(name, "u").text(); repr(decision)
    answer.append(decision.error_code)
""",
        names=STRANGE,
    )
    assert set(told) == {"PARSE_ERROR", None}, "__class__ has the form of a key"
    app.may_lose, app.alone = {"too_large", "unencodable"}, False
    log = (app.directory / "app.log").read_text()
    assert "\x1b" not in log
    assert "\nERROR fake line" not in log
    assert "\u202e" not in log
    assert "x" * 5000 not in log
    assert all(len(line) < 4000 for line in log.splitlines() if " flagkit " in line)


@pytest.mark.parametrize("name", ["X\x1b[31m", "x" * 100_000, "text/html\x1b[31m", "{0.__class__}"])
def test_f07_what_a_server_says_reaches_the_log_as_data(stage: Stage, name: str) -> None:
    app = stage.running()
    app.may_lose = {"unnamed"}
    safe = name.encode("latin-1", "replace").decode("latin-1")[:60_000]
    stage.server.definitions = answers.body(b"{}", Content_Type=safe, ETag=safe, Location=safe)
    app.until(lambda: app.source["failures"] >= 2)
    stage.server.collector = answers.body(json.dumps({"batch_id": name, "rejected": [{"reason": name}]}).encode())
    app.until(lambda: app.status["sink"]["failures"] >= 2)
    log = "\n".join(line for line in (app.directory / "app.log").read_text().splitlines() if " flagkit " in line)
    assert "\x1b" not in log
    assert "x" * 500 not in log
