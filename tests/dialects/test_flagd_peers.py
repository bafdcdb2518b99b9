"""flagkit beside flagd's own libraries, PyPI's (fractional version 3) and npm's (2), and JsonLogic's implementations.

Random definitions and contexts must be answered alike; where the libraries disagree among themselves or with what
jsonlogic.com says, the row is in ``EXPLAINED``, and in docs/backends/flagd.md with who is right. Of the extra
``peers``; the packages of npm (@openfeature/flagd-core, @openfeature/core, json-logic-js) are looked for in the folder
that the environment variable FLAGKIT_NODE_MODULES names. What is not installed is skipped.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import subprocess
import timeit
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from flagkit import Client, Context, sources
from flagkit.dialects import flagd
from tests.dialects.flagd_generator import Generator
from tests.dialects.jsonlogic import DATA, random_rules, value_of

Json = dict[str, Any]
#: Variant, reason, error code.
Answer = tuple[str | None, str, str | None]
DOCUMENTS, FLAGS = 2000, 10
OPERATIONS = (
    *("!", "!!", "!=", "!==", "%", "-", "/", "<", "<=", "==", "===", ">", ">=", "all", "and", "cat", "filter", "if"),
    *("in", "map", "max", "merge", "min", "missing", "missing_some", "none", "or", "reduce", "some", "substr"),
)


def ours(definitions: Json, contexts: Iterable[Json], dialect: str) -> list[list[Answer]]:
    client = Client(source=sources.Static(definitions, dialect=dialect), sink=None)
    found = []
    for context in map(flagd.context, contexts):
        decisions = [client.peek(key, context) for key in definitions["flags"]]
        found.append([(d.variant, d.reason.value, d.error_code and d.error_code.value) for d in decisions])
    return found


class Python:
    """PyPI's openfeature-flagd-core."""

    def __init__(self, definitions: Json) -> None:
        core = pytest.importorskip("openfeature.contrib.tools.flagd.core", reason="of the extra peers")
        logging.getLogger("openfeature.contrib").setLevel(logging.CRITICAL + 1)
        self.core = core.FlagdCore()
        self.core.set_flags(json.dumps(definitions))

    def answer(self, key: str, context: Json) -> Answer:
        from openfeature.evaluation_context import EvaluationContext
        from openfeature.exception import OpenFeatureError

        attributes = {name: value for name, value in context.items() if name != "targetingKey"}
        try:
            found = self.core.resolve_string_value(
                key, "default", EvaluationContext(context.get("targetingKey"), attributes)
            )
        except OpenFeatureError as error:
            return None, "ERROR", error.error_code.value
        except ArithmeticError:  # which the SDK around it takes for a general error
            return None, "ERROR", "GENERAL"
        return found.variant or None, found.reason.value, None


def node(asked: list[Json]) -> list[Any]:
    """What npm's packages say to each of ``asked``."""
    if "FLAGKIT_NODE_MODULES" not in os.environ or shutil.which("node") is None:
        pytest.skip("no node, or FLAGKIT_NODE_MODULES does not say where its packages are")
    script = Path(__file__).with_name("flagd_peer.cjs")
    lines = "\n".join(map(json.dumps, asked))
    done = subprocess.run(["node", script], input=lines, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[:2000]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_random_definitions_are_answered_as_by_the_python_library() -> None:
    different = []
    for seed in range(DOCUMENTS):
        generator = Generator(seed)
        definitions, context = generator.definitions(FLAGS), generator.context()
        peer = Python(definitions)
        (answers,) = ours(definitions, [context], "flagd-v3")
        for key, answer in zip(definitions["flags"], answers, strict=True):
            theirs = peer.answer(key, context)
            if answer != theirs:
                different.append((definitions["flags"][key], context, answer, theirs))
    assert different == []


def test_random_definitions_are_answered_as_by_the_javascript_library() -> None:
    asked = []
    for seed in range(DOCUMENTS):
        generator = Generator(seed, careful=True)
        asked.append({"definitions": generator.definitions(FLAGS), "contexts": [generator.context()]})
    different = []
    for case, answers in zip(asked, node(asked), strict=True):
        theirs = [[tuple(answer) for answer in row] for row in answers]
        if ours(case["definitions"], case["contexts"], "flagd") != theirs:
            different.append((case, theirs))
    assert different == []


def test_rules_of_everything_with_everything_are_answered_as_by_jsonlogic_s_reference() -> None:
    rules = random_rules(1, 20_000, OPERATIONS)
    (theirs,) = node([{"rules": rules, "data": DATA}])
    mine = [_plain(value_of(rule, DATA)) for rule in rules]
    assert [(rule, *pair) for rule, *pair in zip(rules, mine, theirs, strict=True) if not _same(*pair)] == []


def test_rules_of_the_kinds_that_are_documented_are_answered_as_by_panzi_json_logic() -> None:
    peer = pytest.importorskip("json_logic", reason="of the extra peers")
    different = []
    for seed in range(7000):
        generator = Generator(seed)
        data = generator.context()
        for rule in (generator.boolean(3, whole=True), generator.text(3), generator.number(3)):
            if not any(name in json.dumps(rule) for name in ("starts_with", "ends_with", "sem_ver")):
                mine, theirs = value_of(rule, data), peer.jsonLogic(rule, data)
                if not _same(mine, theirs):
                    different.append((rule, data, mine, theirs))
    assert different == []


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    numbers = isinstance(one, (int, float)) and isinstance(other, (int, float))
    return float(one) == float(other) if numbers else bool(one == other)  # JSON writes large floats as integers


def _if(test: Any) -> Json:
    return {"if": [test, "a", "b"]}


#: Why; targeting and context; what flagkit, PyPI's and npm's library answer (variant or error code).
EXPLAINED: list[tuple[str, Any, Json, str, str, str]] = [
    ("true as text is true", _if({"==": [{"cat": [True]}, "true"]}), {}, "a", "b", "a"),
    ("null in a text is nothing", _if({"==": [{"cat": ["x", {"var": "absent"}]}, "x"]}), {}, "a", "b", "b"),
    ("=== tells types apart", _if({"===": [{"var": "x"}, 1]}), {"x": True}, "b", "a", "b"),
    ("in tells types apart", _if({"in": [1, {"var": "x"}]}), {"x": [True]}, "b", "a", "b"),
    ("nothing is in an empty text", _if({"in": ["", {"var": "x"}]}), {"x": ""}, "b", "a", "b"),
    ("% has the dividend's sign", _if({"==": [{"%": [{"var": "x"}, 3]}, -1]}), {"x": -7}, "a", "b", "a"),
    ("1 / 0 is infinite", _if({">": [{"/": [1, {"var": "x"}]}, 5]}), {"x": 0}, "a", "GENERAL", "GENERAL"),
    (
        "all digits of a number",
        _if({"==": [{"cat": [{"var": "x"}]}, "0.30000000000000004"]}),
        {"x": 0.1 + 0.2},
        "a",
        "b",
        "a",
    ),
    ("a whole number as a variant", {"var": "x"}, {"x": 1.0}, "1", "1.0", "1"),
    ("an empty text is 0", _if({"==": [{"+": [{"var": "x"}, 1]}, 1]}), {"x": ""}, "a", "b", "a"),
    ("minus null is minus 0", _if({"==": [{"-": [{"var": "x"}, {"var": "absent"}]}, 5]}), {"x": 5}, "a", "b", "a"),
    ("a length of null is 0", _if({"==": [{"substr": ["abc", 1, {"var": "absent"}]}, ""]}), {}, "a", "b", "a"),
    ("no number is not an error", _if({"<": [{"var": "x"}, 5]}), {"x": "abc"}, "b", "b", "GENERAL"),
    ("a list as a text", _if({"==": [{"var": "x"}, "1,2"]}), {"x": [1, 2]}, "a", "a", "GENERAL"),
    ("all of nothing is false", _if({"all": [{"var": "absent"}, True]}), {}, "b", "b", "a"),
    ("an empty text is missing", _if({"missing": ["x"]}), {"x": ""}, "a", "a", "b"),
    ("an object is true", _if({"var": "x"}), {"x": {}}, "a", "a", "b"),
    (
        "a comparison with what is reckoned",
        _if({"<=": [1, {"reduce": [{"var": "x"}, {"+": [{"var": "accumulator"}, {"var": "current"}]}, 0]}]}),
        {"x": [5]},
        *("a", "a", "GENERAL"),
    ),
    ("an operation nobody knows, met or not", {"if": [True, "a", {"no": 1}]}, {}, "PARSE_ERROR", "a", "PARSE_ERROR"),
    ("a rule of two operations", {"if": [True, "a"], "or": []}, {}, "PARSE_ERROR", "GENERAL", "PARSE_ERROR"),
    ("a list names no variant", {"var": "x"}, {"x": ["a"]}, "GENERAL", "GENERAL", "a"),
    ("a whole weight is whole", {"fractional": ["k", ["a", 1.0], ["a", 1]]}, {}, "a", "c", "a"),
    (
        "a partial version with a pre-release",
        _if({"sem_ver": [{"var": "x"}, "<", "1.0.0"]}),
        {"x": "1-rc"},
        "a",
        "a",
        "b",
    ),
    ("a version and nothing else", _if({"sem_ver": [{"var": "x"}, "=", "1.0.0"]}), {"x": " 1.0.0"}, "b", "b", "a"),
]


#: Where flagkit follows flagd's libraries, not JsonLogic's reference: rule, data, ours, the reference's.
NOT_AS_REFERENCE: list[tuple[Any, Json, Any, Any]] = [
    ({"+": [{"var": "absent"}, 1]}, {}, 1, "NaN"),
    ({"*": ["3abc", 1]}, {}, "NaN", 3),
    ({"var": ["x", "default"]}, {"x": None}, "default", None),
    ({">": [3, 2, 5]}, {}, False, True),
]


@pytest.mark.parametrize(("rule", "data", "mine", "theirs"), NOT_AS_REFERENCE)
def test_where_flagd_s_libraries_agree_flagkit_follows_them(rule: Any, data: Json, mine: Any, theirs: Any) -> None:
    assert _plain(value_of(rule, data)) == mine
    assert node([{"rules": [rule], "data": data}]) == [[theirs]]


def _short(answer: Answer) -> str | None:
    return answer[2] or answer[0]


def _definitions(targeting: Any) -> Json:
    variants = {name: name.upper() for name in ("a", "b", "c", "1", "1.0")}
    return {"flags": {"f": {"state": "ENABLED", "variants": variants, "defaultVariant": "c", "targeting": targeting}}}


@pytest.mark.parametrize(("why", "targeting", "context", "mine", "_", "__"), EXPLAINED, ids=lambda each: str(each)[:40])
def test_where_the_libraries_differ_flagkit_answers(
    why: str, targeting: Any, context: Json, mine: str, _: str, __: str
) -> None:
    for dialect in ("flagd", "flagd-v3"):
        ((answer,),) = ours(_definitions(targeting), [{"targetingKey": "u", **context}], dialect)
        assert _short(answer) == mine


def test_the_python_library_differs_where_it_is_said_to() -> None:
    for why, targeting, context, _, python, _ in EXPLAINED:
        answer = Python(_definitions(targeting)).answer("f", {"targetingKey": "u", **context})
        assert (why, _short(answer)) == (why, python)


def test_the_javascript_library_differs_where_it_is_said_to() -> None:
    asked = [{"definitions": _definitions(row[1]), "contexts": [{"targetingKey": "u", **row[2]}]} for row in EXPLAINED]
    for (why, *_, javascript), ((answer,),) in zip(EXPLAINED, node(asked), strict=True):
        assert (why, _short(answer)) == (why, javascript)


def test_keys_beyond_ascii_are_hashed_as_utf_8_as_flagd_does_and_the_javascript_library_does_not() -> None:
    definitions = _definitions({"fractional": [{"var": "x"}, ["a", 1], ["b", 1], ["1", 1]]})
    context = {"targetingKey": "u", "x": "héllo"}
    assert ours(definitions, [context], "flagd")[0][0][0] == "1"
    assert node([{"definitions": definitions, "contexts": [context]}])[0][0][0][0] == "a"


def test_flagkit_is_many_times_faster_than_the_python_library() -> None:
    rule = {
        "if": [
            {"and": [{"in": [{"var": "country"}, ["SE", "NO"]]}, {"sem_ver": [{"var": "version"}, ">=", "1.2.0"]}]},
            {"fractional": [["a", 25], ["b", 75]]},
            "c",
        ]
    }
    attributes = {"country": "SE", "version": "1.4.0"}
    definitions = _definitions(rule)
    client = Client(source=sources.Static(definitions, dialect="flagd-v3"), sink=None)
    mine, given = Context("user-1", attributes), {"targetingKey": "user-1", **attributes}
    peer = Python(definitions)
    fast = min(timeit.repeat(lambda: client.decide("f", mine), number=200, repeat=20))
    slow = min(timeit.repeat(lambda: peer.answer("f", given), number=200, repeat=20))
    assert slow / fast > 5, f"{slow / fast:.1f} times"
