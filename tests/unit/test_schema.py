"""The shipped JSON Schema: it says what the parser says of a document's shape, and explains every field to editors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from flagkit.core.operators import OPERATORS
from flagkit.dialects import native
from flagkit.errors import DefinitionsError
from flagkit.schema import load_schema, schema_text

SCHEMA = load_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
YES = {"attribute": "a", "op": "in", "values": ["x"]}

WHOLE: dict[str, Any] = {
    "$schema": "definitions.schema.json",
    "schema": 1,
    "version": "2026-11-23.4",
    "environment": "production",
    "epoch": "e1",
    "number": 7,
    "flag_count": 3,
    "replaces": False,
    "segments": {
        "team": {
            "description": "us",
            "any": [{"attribute": "email", "op": "ends_with", "values": ["@example.com"], "ignore_case": True}],
        },
        "pilot": {"units": ["user-1", 2]},
        "both": {"all": [{"segment": ["team", "pilot"]}]},
    },
    "layers": {
        "checkout": {"by": "unit", "salt": "layer", "slots": {"new-checkout": [0, 20], "one-click": [20, 40.5]}}
    },
    "enrolments": {"new-checkout": ["user-1", 2]},
    "holdouts": {"2026-q4": {"percent": 2, "flags": ["*"], "salt": "holdout-2026-q4"}},
    "flags": {
        "payments-v2": {},
        "one-click": {"variants": {"none": None, "deep": {"a": [1]}}, "off": "none", "default": "deep", "version": 3},
        "new-checkout": {
            "description": "the new checkout",
            "owner": "payments",
            "expires": "2027-01-31",
            "kind": "release",
            "enabled": True,
            "variants": {"on": True, "off": False},
            "off": "off",
            "default": "off",
            "prerequisites": [{"flag": "payments-v2", "variants": ["on"]}],
            "exclude": [{"attribute": "plan", "op": "in", "values": ["enterprise"]}],
            "targets": {"on": ["user-7", 8]},
            "rules": [
                {"name": "developers", "when": [{"segment": "team"}], "serve": "on"},
                {"name": "opted in", "when": [{"enrolled": True}], "serve": "on"},
                {"name": "canary", "when": [YES], "rollout": {"percent": 0.125}, "serve": "on"},
                {
                    "name": "ramp",
                    "rollout": {
                        "by": ["company", "id"],
                        "steps": [
                            {"from": "2026-12-01T09:00:00Z", "percent": 1},
                            {"from": "2026-12-02T09:00:00+01:00", "percent": 25},
                        ],
                    },
                    "serve": "on",
                },
                {
                    "name": "test",
                    "when": [
                        {"any": [YES, {"not": YES}], "not": True},
                        {"all": [{"time": {"from": "2026-12-01", "until": "2026-12-24T00:00:00Z"}}]},
                    ],
                    "split": [{"variant": "on", "weight": 50}, {"variant": "off", "weight": 50}],
                },
            ],
            "salt": "new-checkout",
            "hash": "murmur3-v1",
            "max_age_s": 600,
            "client": True,
            "overridable": {"issued_after": "2026-11-28T10:00:00Z", "revoked": ["3f2a"]},
            "early_access": True,
        },
    },
}


def flag(**fields: Any) -> dict[str, Any]:
    return {"schema": 1, "segments": {"team": {"units": ["u"]}}, "flags": {"p": {}, "x": fields}}


def when(**condition: Any) -> dict[str, Any]:
    return flag(rules=[{"when": [condition], "serve": "on"}])


def asked(op: str, *values: Any, **more: Any) -> dict[str, Any]:
    return when(attribute="a", op=op, values=list(values), **more)


def rule(**fields: Any) -> dict[str, Any]:
    return flag(rules=[fields])


VALID: dict[str, dict[str, Any]] = {
    "the whole format": WHOLE,
    "no flags": {"schema": 1, "flags": {}},
    "an empty flag": flag(),
    "numbers, strings and booleans in in": asked("in", 1, 2.5, "x", True),
    "contains": asked("contains", "x", "y", ignore_case=True),
    "matches": asked("matches", "^a.*z$", ignore_case=True),
    "greater": asked("greater", 1.5),
    "between": asked("between", 1, 2),
    "before a date": asked("before", "2026-12-01", "2026-12-01T00:00:00.5Z"),
    "after an age": asked("after", "7d"),
    "a version": asked("semver_greater", "1.2.3-rc.1+build"),
    "a short version": asked("semver_caret", "1.2"),
    "networks": asked("in_cidr", "10.0.0.0/8", "2001:db8::/32", "192.0.2.1"),
    "exists": when(attribute="a", op="exists"),
    "exists without values in a list": asked("exists"),
    "a path": when(attribute=["a", "b"], op="exists"),
    "ignore_case false anywhere": asked("greater", 1, ignore_case=False),
    "not true": asked("in", "x", **{"not": True}),
    "a negated segment": when(segment="team", **{"not": True}),
    "not enrolled": when(enrolled=True, **{"not": True}),
    "not of a condition": when(**{"not": {"segment": "team"}}),
    "a rule for everyone": rule(serve="on"),
    "an empty when": rule(serve="on", when=[]),
    "rollout by attribute": rule(serve="on", rollout={"percent": 5, "by": "company"}),
    "a split": rule(split=[{"variant": "on", "weight": 1}]),
}

#: Wrong in shape: parser and schema both say so.
WRONG: dict[str, dict[str, Any]] = {
    "no schema": {"flags": {}},
    "another schema": {"schema": 2, "flags": {}},
    "no flags": {"schema": 1},
    "flags as a list": {"schema": 1, "flags": []},
    "an unknown field of the document": {"schema": 1, "flags": {}, "flagz": {}},
    "a flag that is no object": {"schema": 1, "flags": {"x": True}},
    "a key with a space": {"schema": 1, "flags": {"a b": {}}},
    "a key that is too long": {"schema": 1, "flags": {"a" * 129: {}}},
    "an unknown field of a flag": flag(roules=[]),
    "enabled as text": flag(enabled="yes"),
    "an unknown kind": flag(kind="temporary"),
    "an unreadable date": flag(expires="31.1.2027"),
    "variants without off": flag(variants={"a": 1}),
    "no variants": flag(variants={}, off="off"),
    "an empty owner": flag(owner=""),
    "another hash": flag(hash="md5"),
    "an empty salt": flag(salt=""),
    "max_age_s as text": flag(max_age_s="1h"),
    "max_age_s of 0": flag(max_age_s=0),
    "client as text": flag(client="yes"),
    "version as a list": flag(version=[1]),
    "prerequisites as an object": flag(prerequisites={"p": "on"}),
    "a prerequisite without variants": flag(prerequisites=[{"flag": "p"}]),
    "a prerequisite with no variant": flag(prerequisites=[{"flag": "p", "variants": []}]),
    "targets as a list": flag(targets=["u"]),
    "a target that is no unit": flag(targets={"on": [None]}),
    "exclude as an object": flag(exclude=YES),
    "rules as an object": flag(rules={"serve": "on"}),
    "neither serve nor split": rule(name="r"),
    "both serve and split": rule(serve="on", split=[{"variant": "on", "weight": 1}]),
    "an unknown field of a rule": rule(serve="on", percent=5),
    "an empty split": rule(split=[]),
    "a negative weight": rule(split=[{"variant": "on", "weight": -1}]),
    "a weight that is not whole": rule(split=[{"variant": "on", "weight": 0.5}]),
    "a share without weight": rule(split=[{"variant": "on"}]),
    "an empty rollout": rule(serve="on", rollout={}),
    "percent and steps": rule(serve="on", rollout={"percent": 1, "steps": [{"from": "2026-12-01", "percent": 1}]}),
    "no steps": rule(serve="on", rollout={"steps": []}),
    "a step without from": rule(serve="on", rollout={"steps": [{"percent": 1}]}),
    "a step from no time": rule(serve="on", rollout={"steps": [{"from": "noon", "percent": 1}]}),
    "more than 100 %": rule(serve="on", rollout={"percent": 101}),
    "percent as text": rule(serve="on", rollout={"percent": "5"}),
    "by nothing": rule(serve="on", rollout={"percent": 5, "by": ""}),
    "an empty condition": when(),
    "an unknown operator": asked("equals", "x"),
    "an unknown field of a condition": asked("in", "x", nott=True),
    "no attribute": when(op="in", values=["x"]),
    "no operator": when(attribute="a", values=["x"]),
    "no values": when(attribute="a", op="in"),
    "empty values": asked("in"),
    "null in values": asked("in", None),
    "a number to contain": asked("contains", 1),
    "a value that is too long": asked("starts_with", "x" * 4097),
    "a pattern that is too long": asked("matches", "x" * 257),
    "two bounds for greater": asked("greater", 1, 2),
    "greater than text": asked("greater", "1"),
    "one bound for between": asked("between", 1),
    "before nonsense": asked("before", "soon"),
    "a date without an offset": asked("after", "2026-12-01T00:00:00"),
    "a version with v": asked("semver_equal", "v1.2.3"),
    "no network": asked("in_cidr", "example.com"),
    "values for exists": asked("exists", "x"),
    "ignore_case with numbers": asked("greater", 1, ignore_case=True),
    "not as text": asked("in", "x", **{"not": "yes"}),
    "enrolled false": when(enrolled=False),
    "no segment": when(segment=[]),
    "segment and values": when(segment="team", values=["x"]),
    "an empty any": when(any=[]),
    "not of a list": when(**{"not": [YES]}),
    "time without bounds": when(time={}),
    "time from nonsense": when(time={"from": "noon"}),
    "an empty segment": {"schema": 1, "flags": {}, "segments": {"s": {}}},
    "a segment with no condition": {"schema": 1, "flags": {}, "segments": {"s": {"any": []}}},
    "a layer without slots": {"schema": 1, "flags": {}, "layers": {"l": {}}},
    "a slot of three": {"schema": 1, "flags": {}, "layers": {"l": {"slots": {"x": [0, 1, 2]}}}},
    "a holdout without flags": {"schema": 1, "flags": {}, "holdouts": {"h": {"percent": 1}}},
    "a holdout of more than all": {"schema": 1, "flags": {}, "holdouts": {"h": {"percent": 200, "flags": ["*"]}}},
}

#: Wrong in what no schema can see: only the parser says so.
PARSER_ONLY: dict[str, dict[str, Any]] = {
    "a variant that is not there": rule(serve="onn"),
    "four decimals": rule(serve="on", rollout={"percent": 0.0001}),
    "weights of 0": rule(split=[{"variant": "on", "weight": 0}]),
    "steps out of order": rule(
        serve="on", rollout={"steps": [{"from": "2026-12-02", "percent": 1}, {"from": "2026-12-01", "percent": 2}]}
    ),
    "an unknown segment": when(segment="nobody"),
    "a day that does not exist": asked("before", "2026-02-30"),
    "bounds the wrong way round": asked("between", 2, 1),
    "a broken pattern": asked("matches", "("),
    "two rules of one name": flag(rules=[{"name": "r", "serve": "on"}, {"name": "r", "serve": "off"}]),
    "a unit in two variants": flag(targets={"on": ["u"], "off": ["u"]}),
    "slots that overlap": {"schema": 1, "flags": {}, "layers": {"l": {"slots": {"x": [0, 20], "y": [10, 30]}}}},
    "a prerequisite of itself": flag(prerequisites=[{"flag": "x", "variants": ["on"]}]),
}


def parser_accepts(document: object) -> bool:
    try:
        return not native.parse(json.dumps(document).encode()).problems
    except DefinitionsError:
        return False


def test_it_is_a_valid_schema_of_its_draft() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(schema_text()) == SCHEMA


@pytest.mark.parametrize("name", VALID)
def test_what_is_right_passes_parser_and_schema(name: str) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(VALID[name])] == []
    assert parser_accepts(VALID[name])


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_shape_fails_parser_and_schema(name: str) -> None:
    assert not VALIDATOR.is_valid(WRONG[name])
    assert not parser_accepts(WRONG[name])


@pytest.mark.parametrize("name", PARSER_ONLY)
def test_what_only_the_parser_can_see_passes_the_schema(name: str) -> None:
    assert VALIDATOR.is_valid(PARSER_ONLY[name])
    assert not parser_accepts(PARSER_ONLY[name])


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_of_the_engine_is_in_the_schema(operator: str) -> None:
    assert operator in SCHEMA["$defs"]["condition"]["properties"]["op"]["enum"]


def test_the_schema_has_no_operator_of_its_own() -> None:
    assert set(SCHEMA["$defs"]["condition"]["properties"]["op"]["enum"]) == set(OPERATORS)


def documented(schema: object, path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property an editor could offer: those of objects that say what they are."""
    if isinstance(schema, dict):
        if schema.get("additionalProperties") is False:
            yield from ((f"{path}.{name}", each) for name, each in schema["properties"].items())
        for name, each in schema.items():
            yield from documented(each, f"{path}.{name}")
    elif isinstance(schema, list):
        for index, each in enumerate(schema):
            yield from documented(each, f"{path}[{index}]")


def test_every_field_has_a_title_and_a_description_for_editors() -> None:
    fields = list(documented(SCHEMA))
    assert len(fields) > 60
    assert [path for path, field in fields if not (field.get("title") and field.get("description"))] == []


def test_every_example_is_valid() -> None:
    tried = 0
    for name, part in SCHEMA["$defs"].items():
        validator = Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]})
        for example in part.get("examples", ()):
            assert [error.message for error in validator.iter_errors(example)] == []
            tried += 1
    assert tried > 15
