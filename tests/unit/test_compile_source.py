"""Generated code holds nothing of a document: no text gets in, and flags of one shape share one code object."""

from __future__ import annotations

import re
from types import CodeType, FunctionType
from typing import Any

import pytest
from documents import HALF, STEADY, document, snapshot
from fakes import WALL_MS
from hypothesis import given
from hypothesis import strategies as st

from flagkit.context import Context
from flagkit.core import compile as compiling
from flagkit.core.snapshot import Snapshot
from flagkit.dialects import native

Json = dict[str, Any]

#: Every word that generated source may consist of. A number is a position, a bound that flagkit sets, or a seed.
WORDS = {
    *("def", "make", "decide", "return", "if", "else", "and", "or", "not", "in", "is", "None", "False", "True"),
    *("c", "forced", "parents", "key", "get", "out", "found", "h", "u", "w", "x", "y", "_key", "attributes"),
    *("bisect", "digest", "variant", "len", "str", "type", "startswith", "endswith"),
    *("dict", "encode", "unit", "longest", "as_context"),
}
TOKEN = re.compile(r"[A-Za-z_]\w*|\d+|:=|[<>=]=?|[()\[\]{}:.,+]|\s+")
NUMBERS = {"1", "4096"}


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The source of every flag compiled during a test, as it goes to the Python compiler."""
    written: list[str] = []
    maker = compiling._maker

    def noted(source: str) -> Any:
        written.append(source)
        return maker(source)

    monkeypatch.setattr(compiling, "_maker", noted)
    return written


def foreign(source: str) -> list[str]:
    """What is in ``source`` and should not be."""
    strange = TOKEN.sub("", source)
    words = re.findall(r"[A-Za-z_]\w*|\d+", source)
    return [strange] * bool(strange) + [w for w in words if w not in WORDS | NUMBERS and not re.fullmatch(r"k\d+", w)]


NASTY = st.sampled_from(
    [
        '"',
        "'",
        "'''",
        '"""',
        "\\",
        "{",
        "}",
        "{k}",
        "{x}",
        "{0}",
        "%s",
        "\n",
        "\nimport os\n",
        "#",
        "__import__('os').abort()",
        "k0",
        "k999",
        "key",
        "return",
        "): return k0 #",
        "type(x)",
        "\x00",
        "\u2028",
        "ｋ０",
        "é",
        "😀",
        "\ud800",
        "",
        " ",
    ]
) | st.text(max_size=12)
VALUE = NASTY | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
KEY = st.text("abcXYZ019._-", min_size=1, max_size=12)
#: Names as a document may have them: printable.
NAME = (NASTY | st.text(min_size=1, max_size=12)).filter(lambda text: text != "" and text.isprintable())
TEXT_OPERATOR = st.sampled_from(["in", "contains", "starts_with", "ends_with"])
CONDITION = st.one_of(
    st.fixed_dictionaries(
        {
            "attribute": NASTY.filter(bool) | st.lists(NASTY.filter(bool), min_size=1, max_size=3),
            "op": TEXT_OPERATOR,
            "values": st.lists(NASTY, min_size=1, max_size=3),
        },
        optional={"not": st.booleans(), "ignore_case": st.booleans()},
    ),
    st.fixed_dictionaries(
        {"attribute": NASTY.filter(bool), "op": st.just("in"), "values": st.lists(VALUE, min_size=1)}
    ),
    st.fixed_dictionaries({"attribute": NASTY.filter(bool), "op": st.just("exists")}),
    st.fixed_dictionaries({"segment": st.just("team")}),
    st.fixed_dictionaries({"enrolled": st.just(True)}),
)
PERCENT = st.integers(0, 100_000).map(lambda thousandths: thousandths / 1000)
UNIT = NASTY.filter(lambda text: text and text != "\ud800") | st.integers(-9, 9)


@st.composite
def flags(draw: st.DrawFn) -> Json:
    names = draw(st.lists(NAME, min_size=1, max_size=4, unique=True))
    one = st.sampled_from(names)
    shares = st.lists(st.fixed_dictionaries({"variant": one, "weight": st.integers(1, 9)}), min_size=1, max_size=3)
    placed = st.fixed_dictionaries({"percent": PERCENT}, optional={"by": NASTY.filter(bool)})
    rule = st.one_of(
        st.fixed_dictionaries({"serve": one}, optional={"when": st.lists(CONDITION, max_size=3), "rollout": placed}),
        st.fixed_dictionaries({"split": shares}, optional={"when": st.lists(CONDITION, max_size=3), "rollout": placed}),
    )
    rules = draw(st.lists(rule, max_size=3))
    for index, name in enumerate(draw(st.lists(NAME, max_size=len(rules), unique=True))):
        if not name.startswith("rule-"):
            rules[index]["name"] = name
    units = draw(st.lists(UNIT, max_size=3, unique_by=str))
    return {
        "variants": {name: draw(VALUE) for name in names},
        "off": names[0],
        "default": draw(one),
        "rules": rules,
        "targets": {draw(one): units},
        "exclude": draw(st.lists(CONDITION, max_size=2)),
        "salt": draw(KEY),
    }


@given(st.dictionaries(KEY, flags(), min_size=1, max_size=3), CONDITION, st.data())
@STEADY
def test_no_text_of_a_document_gets_into_generated_code(written: Json, condition: Json, data: st.DataObject) -> None:
    head = {
        "segments": {"team": {"any": [{"attribute": "a", "op": "exists"}]}},
        "holdouts": {"h": {"percent": 1, "flags": ["*"], "salt": "k0"}},
        "layers": {"l": {"by": data.draw(NASTY.filter(bool)), "slots": {next(iter(written)): [0, 50]}}},
    }
    read = native.parse(document(written, **head))
    assert [str(problem) for problem in read.problems] == []
    asked = data.draw(st.dictionaries(NASTY, VALUE | st.none(), max_size=4))
    compiling._maker.cache_clear()
    seen: list[str] = []
    maker = compiling._maker

    def noted(source: str) -> Any:
        seen.append(source)
        return maker(source)

    compiling._maker = noted  # type: ignore[assignment]
    try:
        answers = Snapshot(read.definitions, now_ms=lambda: WALL_MS).decide_all(Context("user-1", asked))
    finally:
        compiling._maker = maker
    assert len(seen) == len(written)
    assert [foreign(source) for source in seen] == [[]] * len(seen)
    assert all(decision.error_code is None for decision in answers.values())


def test_source_is_the_same_whatever_a_flag_of_the_shape_says(sources: list[str]) -> None:
    def shape(word: str, number: int) -> Json:
        return {
            "variants": {word: word, "no": number},
            "off": "no",
            "targets": {word: [word] * number},
            "exclude": [{"attribute": word, "op": "ends_with", "values": [word]}],
            "rules": [
                {
                    "name": word,
                    "when": [{"attribute": word, "op": "in", "values": [word, word * number]}],
                    "rollout": {"percent": number, "by": word},
                    "serve": word,
                },
                {"when": [{"attribute": word, "op": "greater", "values": [number]}], "serve": word},
            ],
        }

    answers = snapshot({"one": shape("alpha", 1), "two": shape("beta", 2)})
    answers.decide_all(Context("u"))
    assert len(sources) == 2
    assert sources[0] == sources[1]
    codes = {_code(answers.compiled[key]) for key in ("one", "two")}
    assert len(codes) == 1


def _code(compiled: Any) -> CodeType:
    assert isinstance(compiled, FunctionType)
    return compiled.__code__


def test_generated_code_reaches_no_builtins() -> None:
    compiled = _compiled_half()
    assert compiled.__globals__["__builtins__"] == {}
    given = {"str", "len", "type", "dict", "encode", "bisect", "digest", "as_context", "unit", "longest"}
    assert set(compiled.__globals__) == {"__builtins__", "make", *given}


def _compiled_half() -> FunctionType:
    answers = snapshot({"f": HALF})
    answers.decide("f", Context("u"))
    compiled = answers.compiled["f"]
    assert isinstance(compiled, FunctionType)
    return compiled


def test_the_memory_of_shapes_is_bounded() -> None:
    assert compiling._maker.cache_info().maxsize == 1024
