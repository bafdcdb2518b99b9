"""``flagkit eval``: the decision a client would make, from a command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flagkit.cli import main

FLAGS = {
    "schema": 1,
    "segments": {"team": {"any": [{"attribute": "email", "op": "ends_with", "values": ["@example.com"]}]}},
    "flags": {
        "payments-v2": {"rules": [{"when": [{"attribute": "country", "op": "in", "values": ["SE"]}], "serve": "on"}]},
        "new-checkout": {
            "prerequisites": [{"flag": "payments-v2", "variants": ["on"]}],
            "rules": [
                {"name": "team", "when": [{"segment": "team"}], "serve": "on"},
                {"name": "early", "when": [{"enrolled": True}], "serve": "on"},
                {"name": "adults", "when": [{"attribute": "age", "op": "greater", "values": [17]}], "serve": "on"},
                {"name": "ramp", "rollout": {"steps": [{"from": "2030-01-01", "percent": 100}]}, "serve": "on"},
            ],
        },
        "max-items": {"variants": {"few": 10, "many": {"n": 50}}, "off": "few", "default": "many"},
    },
}


@pytest.fixture
def flags(tmp_path: Path) -> str:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps(FLAGS))
    return str(path)


def evaluate(file: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["eval", file, *arguments])


def answer(file: str, *arguments: str) -> tuple[str, str, str | None]:
    found = json.loads(evaluate(file, *arguments, "--json").output)
    return found["variant"], found["reason"], found["rule"]


def test_it_prints_variant_value_and_reason(flags: str) -> None:
    result = evaluate(flags, "new-checkout", "--unit", "u", "--attr", "country=SE", "--attr", "email=a@example.com")
    assert result.exit_code == 0
    assert result.output == 'variant  on\nvalue    true\nreason   TARGETING_MATCH, rule "team"\n'


def test_a_value_is_printed_as_json(flags: str) -> None:
    assert evaluate(flags, "max-items").output == 'variant  many\nvalue    {"n": 50}\nreason   STATIC\n'


def test_json_is_the_whole_decision(flags: str) -> None:
    found = json.loads(evaluate(flags, "max-items", "--unit", "u", "--json").output)
    version = found.pop("version")
    assert len(version) == 12
    assert found == {
        "flag": "max-items",
        "variant": "many",
        "enabled": True,
        "value": {"n": 50},
        "reason": "STATIC",
        "error_code": None,
        "rule": None,
    }


@pytest.mark.parametrize(
    ("text", "matches"), [("18", True), ("17.5", True), ('"18"', False), ("true", False), ("x", False)]
)
def test_attributes_are_json_where_they_can_be(flags: str, text: str, matches: bool) -> None:
    found = answer(flags, "new-checkout", "--unit", "u", "--attr", "country=SE", "--attr", f"age={text}")
    assert (found[2] == "adults") is matches


def test_single_attributes_win_over_the_object(flags: str) -> None:
    whole = '{"country": "DE", "age": 30}'
    assert answer(flags, "new-checkout", "--unit", "u", "--attrs", whole)[1] == "PREREQUISITE_FAILED"
    assert answer(flags, "new-checkout", "--unit", "u", "--attrs", whole, "--attr", "country=SE")[2] == "adults"


def test_enrolment_time_and_overrides_can_be_tried(flags: str) -> None:
    common = ("new-checkout", "--unit", "u", "--attr", "country=SE")
    assert answer(flags, *common)[:2] == ("off", "SPLIT")
    assert answer(flags, *common, "--enrolled")[2] == "early"
    assert answer(flags, *common, "--now", "2030-01-01T00:00:00Z")[2] == "ramp"
    assert answer(flags, *common, "--override", "payments-v2=off")[1] == "PREREQUISITE_FAILED"
    assert answer(flags, *common, "--override", "new-checkout=true")[:2] == ("on", "OVERRIDE")


def test_without_a_unit_rollouts_never_match(flags: str) -> None:
    assert answer(flags, "new-checkout", "--attr", "country=SE", "--now", "2031-01-01")[:2] == ("off", "DEFAULT")


def test_explain_shows_the_rules_tried(flags: str) -> None:
    result = evaluate(flags, "new-checkout", "--unit", "u", "--attr", "country=SE", "--explain")
    assert result.exit_code == 0
    for part in ("payments-v2", 'rule "team"', 'rule "early"', 'rule "adults"', 'rule "ramp"', "bucket "):
        assert part in result.output
    steps = json.loads(evaluate(flags, "new-checkout", "--unit", "u", "--explain", "--json").output)["steps"]
    assert [step["step"] for step in steps] == ["prerequisites"]


def test_an_unknown_flag_gets_a_suggestion(flags: str) -> None:
    result = evaluate(flags, "new-chekout")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: no flag 'new-chekout'; did you mean 'new-checkout'?\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--override", "nope=on"), "no flag 'nope'; there are: "),
        (("--override", "new-checkout=onn"), "no variant of new-checkout 'onn'; did you mean 'on'?"),
        (("--attr", "country"), "--attr: got 'country'; expected name=value"),
        (("--attrs", "[1]"), "--attrs: expected a JSON object"),
        (("--attrs", "{"), "--attrs: expected a JSON object"),
        (("--now", "noon"), "got 'noon'; expected a date"),
    ],
)
def test_a_wrong_option_is_an_error_that_says_so(flags: str, arguments: tuple[str, ...], message: str) -> None:
    result = evaluate(flags, "new-checkout", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


def test_a_unit_that_is_none_is_no_answer(flags: str) -> None:
    result = evaluate(flags, "new-checkout", "--unit", "")
    assert result.exit_code == 1
    assert "ERROR, INVALID_CONTEXT" in result.stdout


def test_a_refused_flag_shows_why(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_text('{"schema": 1, "flags": {"x": {"enabled": "yes"}, "y": {}}}')
    result = evaluate(str(path), "x")
    assert result.exit_code == 1
    assert "ERROR, PARSE_ERROR" in result.stdout
    assert '$.flags.x.enabled: got "yes"' in result.stderr
    assert evaluate(str(path), "y").stderr == ""


@pytest.mark.parametrize("data", ["", "{", '{"schema": 9, "flags": {}}'])
def test_definitions_that_cannot_be_used_are_one_line(tmp_path: Path, data: str) -> None:
    path = tmp_path / "flags.json"
    path.write_text(data)
    result = evaluate(str(path), "x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"Error: {path}: $")
