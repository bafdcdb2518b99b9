"""JsonLogic, compiled: the operations as jsonlogic.com has them, in bounded time whatever the rule and the data."""

from __future__ import annotations

import math
from typing import Any

import pytest

from flagkit.dialects.fields import Faults
from flagkit.dialects.flagd_rules import MAX_DEPTH, MAX_NODES, check_depth, check_rule
from flagkit.dialects.javascript import TooMuch, loose, number, strict, text, truthy
from tests.dialects.jsonlogic import truth_of, value_of

PIES = {"pie": {"filling": "apple"}, "temp": 55, "list": [1, 2, 3], "text": "spring", "null": None, "zero": 0}

RULES: list[tuple[Any, Any]] = [
    ({"var": "temp"}, 55),
    ({"var": ["temp"]}, 55),
    ({"var": ["absent", 26]}, 26),
    ({"var": ["null", 26]}, 26),
    ({"var": ["zero", 26]}, 0),
    ({"var": "pie.filling"}, "apple"),
    ({"var": "pie.crust.depth"}, None),
    ({"var": "list.1"}, 2),
    ({"var": "list.01"}, None),
    ({"var": "list.9"}, None),
    ({"var": "list.length"}, 3),
    ({"var": "text.0"}, "s"),
    ({"var": "temp.x"}, None),
    ({"var": {"cat": ["pie", ".filling"]}}, "apple"),
    ({"var": "$flagd.flagKey"}, "flag"),
    ({"var": "$flagd.timestamp"}, 0),
    ({"var": "$flagd.timestamp.x"}, None),
    ({"var": "$flagd.absent"}, None),
    ({"missing": ["temp", "a", "b"]}, ["a", "b"]),
    ({"missing": [["temp", "a"]]}, ["a"]),
    ({"missing": {"merge": ["x", ["temp"]]}}, ["x"]),
    ({"missing_some": [1, ["temp", "a"]]}, []),
    ({"missing_some": [2, ["temp", "a", "b"]]}, ["a", "b"]),
    ({"missing_some": [1]}, []),
    ({"if": [True, "yes", "no"]}, "yes"),
    ({"if": [False, "yes"]}, None),
    ({"if": []}, None),
    ({"if": ["only"]}, "only"),
    ({"?:": [0, 1, [], 2, 3]}, 3),
    ({"==": [1, "1"]}, True),
    ({"==": [0, False]}, True),
    ({"==": [None, {"var": "absent"}]}, True),
    ({"==": [0, None]}, False),
    ({"===": [1, "1"]}, False),
    ({"===": [1, 1.0]}, True),
    ({"===": [{"var": "t"}, 1]}, False),
    ({"!=": [1, 2]}, True),
    ({"!==": [1, "1"]}, True),
    ({"==": [1]}, False),
    ({"==": [None]}, True),
    ({"===": [None]}, False),
    ({"==": []}, True),
    ({"!": [True]}, False),
    ({"!": []}, True),
    ({"!!": [[]]}, False),
    ({"!!": ["0"]}, True),
    ({"!!": []}, False),
    ({"or": [False, "", "a", 1]}, "a"),
    ({"or": [False, 0]}, 0),
    ({"or": []}, None),
    ({"and": [True, "a", 3]}, 3),
    ({"and": [True, "", 3]}, ""),
    ({"and": []}, None),
    ({">": [2, 1]}, True),
    ({">=": [1, 1]}, True),
    ({"<": [1, 2]}, True),
    ({"<=": [2, 1]}, False),
    ({"<": [1, {"var": "list.1"}, 3]}, True),
    ({"<": [1, 1, 3]}, False),
    ({"<=": [1, 1, 3]}, True),
    ({">": [3, 2, 1]}, True),
    ({">": [3, 2, 2]}, False),
    ({"<": [1, 2, None]}, False),
    ({"<": ["a", "b"]}, True),
    ({"<": ["10", "9"]}, True),
    ({"<": ["10", 9]}, False),
    ({"<": [{"var": "absent"}, 1]}, True),
    ({"<": ["abc", 1]}, False),
    ({">": ["abc", 1]}, False),
    ({"<": [1]}, False),
    ({"max": [1, "3", 2]}, 3),
    ({"min": [1, 3, -2]}, -2),
    ({"min": []}, math.inf),
    ({"max": []}, -math.inf),
    ({"+": [1, "2", 3.5]}, 6.5),
    ({"+": "3.14"}, 3.14),
    ({"+": []}, 0),
    ({"-": [4, 2]}, 2),
    ({"-": 2}, -2),
    ({"*": [2, 3, 4]}, 24),
    ({"/": [4, 8]}, 0.5),
    ({"/": [1, 0]}, math.inf),
    ({"/": [-1, 0]}, -math.inf),
    ({"%": [101, 2]}, 1),
    ({"%": [-7, 3]}, -1),
    ({"%": [5.5, 2]}, 1.5),
    ({"map": [{"var": "list"}, {"*": [{"var": ""}, 2]}]}, [2, 4, 6]),
    ({"map": [{"var": "absent"}, {"var": ""}]}, []),
    ({"map": [[1], {"var": "temp"}]}, [None]),
    ({"filter": [{"var": "list"}, {"%": [{"var": ""}, 2]}]}, [1, 3]),
    ({"reduce": [{"var": "list"}, {"+": [{"var": "current"}, {"var": "accumulator"}]}, 10]}, 16),
    ({"reduce": [{"var": "absent"}, {"var": "current"}, 7]}, 7),
    ({"reduce": [{"var": "list"}, {"var": "accumulator"}]}, None),
    ({"all": [{"var": "list"}, {">": [{"var": ""}, 0]}]}, True),
    ({"all": [[], True]}, False),
    ({"none": [[], True]}, True),
    ({"some": [{"var": "list"}, {"==": [{"var": ""}, 2]}]}, True),
    ({"some": [{"var": "absent"}, True]}, False),
    ({"map": [[[1, 2], [3]], {"map": [{"var": ""}, {"+": [{"var": ""}, 1]}]}]}, [[2, 3], [4]]),
    ({"merge": [[1, 2], 3, [[4]]]}, [1, 2, 3, [4]]),
    ({"in": ["pri", {"var": "text"}]}, True),
    ({"in": [2, {"var": "list"}]}, True),
    ({"in": ["2", {"var": "list"}]}, False),
    ({"in": ["a", {"var": "absent"}]}, False),
    ({"in": ["", {"var": "empty"}]}, False),
    ({"in": ["a"]}, False),
    ({"in": [{"var": "text"}, ["summer", "spring"]]}, True),
    ({"in": [{"var": "temp"}, ["summer", 55]]}, True),
    ({"cat": ["I love ", {"var": "pie.filling"}, 1, 2.0, None, True, [1, None]]}, "I love apple12true1,"),
    ({"cat": "x"}, "x"),
    ({"cat": [{"var": "text"}, "-"]}, "spring-"),
    ({"cat": ["-", {"var": "temp"}]}, "-55"),
    ({"cat": [{"var": "$flagd.flagKey"}, {"var": "absent"}]}, "flag"),
    ({"substr": ["jsonlogic", 4]}, "logic"),
    ({"substr": ["jsonlogic", -5]}, "logic"),
    ({"substr": ["jsonlogic", 1, 3]}, "son"),
    ({"substr": ["jsonlogic", 4, -2]}, "log"),
    ({"substr": ["jsonlogic", -99, 4]}, "json"),
    ({"substr": ["abc", 1, None]}, ""),
    ({"log": "x"}, "x"),
    ({"starts_with": [{"var": "text"}, "spr"]}, True),
    ({"ends_with": ["spring", {"var": "text"}]}, True),
    ({"starts_with": [1, "1"]}, None),
    ({"starts_with": ["a"]}, None),
    ({"sem_ver": ["v1.2", "^", "1.9.9"]}, True),
    ({"sem_ver": ["1.2.3", "~", "1.2.9"]}, True),
    ({"sem_ver": ["1.2.3-rc.1", "<", "1.2.3"]}, True),
    ({"sem_ver": [{"var": "text"}, "<", "1.2.3"]}, None),
    ({"sem_ver": ["1.0.0", "<>", "1.2.3"]}, None),
    ({"sem_ver": ["1.0.0", {"cat": ["<", "="]}, {"cat": ["1.0", ".0"]}]}, True),
    ({"a": 1, "b": {"var": "temp"}}, {"a": 1, "b": {"var": "temp"}}),
    ([1, {"var": "temp"}], [1, 55]),
]


@pytest.mark.parametrize(("rule", "expected"), RULES, ids=lambda each: str(each)[:60])
def test_a_rule_comes_to(rule: Any, expected: Any) -> None:
    found = value_of(rule, {**PIES, "t": True, "empty": ""})
    assert found == expected
    assert isinstance(found, bool) == isinstance(expected, bool)
    assert truth_of(rule, {**PIES, "t": True, "empty": ""}) == truthy(expected)


def test_the_empty_name_is_all_there_is() -> None:
    everything = {"x": 1, "$flagd": {"flagKey": "flag", "timestamp": 0}}
    for rule in ({"var": ""}, {"var": []}, {"var": None}, {"var": [{"var": "absent"}]}):
        assert value_of(rule, {"x": 1, "$flagd": "theirs"}) == everything


def test_what_is_no_number_is_not_a_number() -> None:
    for rule in ({"+": ["x"]}, {"-": []}, {"/": [0, 0]}, {"%": [1, 0]}, {"%": [1]}, {"max": [1, "x"]}):
        assert math.isnan(value_of(rule, {}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1 + 0.2, "0.30000000000000004"),
        (1e21, "1e+21"),
        (1e20, "100000000000000000000"),
        (1.5e-7, "1.5e-7"),
        (0.000001, "0.000001"),
        (12345.0, "12345"),
        (-1.5e-5, "-0.000015"),
        (-0.0, "0"),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        (2**60, "1152921504606846976"),
        (10**400, "Infinity"),
        ({}, "[object Object]"),
        ([1, [2, None], {}], "1,2,,[object Object]"),
    ],
)
def test_a_value_as_text(value: Any, expected: str) -> None:
    assert text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" 12 ", 12),
        ("", 0),
        ("1e3", 1000),
        ("0x1F", 31),
        ("-Infinity", -math.inf),
        ([5], 5),
        ([], 0),
        (10**400, math.inf),
    ],
)
def test_a_value_as_a_number(value: Any, expected: float) -> None:
    assert number(value) == expected


@pytest.mark.parametrize("value", ["1_000", "nan", "inf", "infinity", "--Infinity", "1x", [1, 2], {}, "9" * 5000])
def test_what_python_alone_takes_for_a_number_is_none(value: Any) -> None:
    assert math.isnan(number(value))


def test_subclasses_are_what_they_are_made_of() -> None:
    class Name(str):
        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = str.__hash__

    assert strict(Name("a"), "a")
    assert loose(Name("1"), 1)
    assert value_of({"in": [{"var": "x"}, ["a", "b"]]}, {"x": Name("b")})


def test_a_foreign_object_is_true_and_equals_nothing() -> None:
    thing = object()
    assert truth_of({"var": "x"}, {"x": thing})
    for other in ("[object Object]", 0, 1, True, None, {}):
        assert not loose(thing, other)
        assert not strict(thing, other)


# -- bounds


def faults_of(rule: Any) -> list[str]:
    faults = Faults()
    if check_depth(rule, None, faults):
        check_rule(rule, None, faults)
    return [message for _, message in faults.found]


def nested(levels: int) -> Any:
    rule: Any = {"var": "x"}
    for _ in range(levels):
        rule = {"!": [rule]}
    return rule


def test_the_deepest_rule_works_and_a_deeper_one_is_refused() -> None:
    levels = MAX_DEPTH // 2 - 1
    assert faults_of(nested(levels)) == []
    assert value_of(nested(levels), {"x": 1}) is (levels % 2 == 0)
    assert faults_of(nested(levels + 2)) == [f"nested too deeply; expected at most {MAX_DEPTH} levels"]


@pytest.mark.parametrize("name", ["if", "and", "or", "+", "cat", "max", "==", "<", "in", "substr", "map", "merge", "-"])
def test_every_operation_nests_as_deep_as_rules_may(name: str) -> None:
    rule: Any = {"var": "x"}
    for _ in range(MAX_DEPTH // 2 - 1):
        rule = {name: [rule, 1, 2]}
    assert faults_of(rule) == []
    value_of(rule, {"x": 1})
    truth_of(rule, {"x": 1})


@pytest.mark.parametrize("name", ["if", "and", "or", "+", "cat", "max", "merge", "missing"])
def test_every_operation_takes_as_many_arguments_as_rules_may_have(name: str) -> None:
    rule = {name: [{"var": "x"}] * (MAX_NODES // 2 - 1)}
    assert faults_of(rule) == []
    value_of(rule, {"x": 1})
    assert any("more than 5,000 operations" in fault for fault in faults_of({name: [{"var": "x"}] * MAX_NODES}))


def test_a_list_of_constants_may_be_long() -> None:
    rule = {"in": [{"var": "x"}, [f"user-{number}" for number in range(100_000)]]}
    assert faults_of(rule) == []
    assert value_of(rule, {"x": "user-99999"}) is True


DOUBLED = {"cat": [{"var": "accumulator"}, {"var": "accumulator"}]}


@pytest.mark.parametrize(
    "rule",
    [
        {"reduce": [{"var": "items"}, DOUBLED, "x"]},
        {"reduce": [{"var": "items"}, {"merge": [{"var": "accumulator"}, {"var": "accumulator"}]}, [1]]},
        {"cat": {"reduce": [{"var": "items"}, [{"var": "accumulator"}, {"var": "accumulator"}], 1]}},
        {"map": [{"var": "items"}, {"map": [{"var": "items"}, 1]}]} | {},
        {"map": [{"var": "nested"}, {"some": [{"var": ""}, {"==": [{"var": ""}, "never"]}]}]},
        {"map": [{"var": "nested"}, {"in": ["never", {"var": ""}]}]},
    ],
)
def test_what_would_grow_without_end_ends(rule: Any) -> None:
    data = {"items": list(range(100)), "nested": [list(range(1000))] * 1000}
    if "map" in rule and rule["map"][0] == {"var": "items"}:
        assert value_of(rule, data) == [[]] * 100  # an item has no items
        return
    with pytest.raises(TooMuch):
        value_of(rule, data)


def test_numbers_do_not_grow_either() -> None:
    rule = {"reduce": [{"var": "items"}, {"*": [{"var": "accumulator"}, {"var": "accumulator"}]}, 10]}
    assert value_of(rule, {"items": list(range(1000))}) == math.inf


def test_a_circle_in_the_data_ends() -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    with pytest.raises(TooMuch):
        value_of({"cat": {"var": "x"}}, {"x": circle})
