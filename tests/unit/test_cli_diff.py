"""``flagkit diff``: who would change, counted before anything is published."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flagkit.cli import main
from flagkit.cli.blast import Blast, touched_flags
from flagkit.context import Context
from flagkit.core.bucketing import bucket
from flagkit.core.snapshot import Snapshot
from flagkit.dialects import native

OLD: dict[str, Any] = {
    "schema": 1,
    "segments": {
        "team": {"any": [{"attribute": "email", "op": "ends_with", "values": ["@example.com"]}]},
        "pilot": {"units": ["unit-1", "unit-2"]},
    },
    "flags": {
        "new-search": {"rules": [{"rollout": {"percent": 5}, "serve": "on"}]},
        "new-ranker": {"prerequisites": [{"flag": "new-search", "variants": ["on"]}], "rules": [{"serve": "on"}]},
        "pilot-only": {"rules": [{"when": [{"segment": "pilot"}], "serve": "on"}]},
        "max-items": {"variants": {"few": 10, "many": 50}, "off": "few", "default": "many"},
        "retired": {"rules": [{"serve": "on"}]},
        "steady": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]},
    },
}


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("old.json", OLD)


def write(name: str, document: object) -> None:
    Path(name).write_text(json.dumps(document))


def edited(**flags: Any) -> dict[str, Any]:
    new = copy.deepcopy(OLD)
    new["flags"].update(flags)
    return new


def diff(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["diff", "old.json", "new.json", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_the_report_counts_every_change_by_flag_and_segment() -> None:
    new = edited(
        **{
            "new-search": {"rules": [{"rollout": {"percent": 25}, "serve": "on"}]},
            "max-items": {"variants": {"few": 10, "many": 60}, "off": "few", "default": "many"},
            "brand-new": {"rules": [{"when": [{"segment": "team"}], "serve": "on"}]},
        }
    )
    del new["flags"]["retired"]
    new["segments"]["pilot"]["units"] = ["unit-2", "unit-3", "unit-4"]
    write("new.json", new)
    moved = sum(5_000 <= bucket("new-search", b"unit-%d" % n) < 25_000 for n in range(1000))
    result = diff("--units", "1000")
    assert result.exit_code == 0
    assert moved == 191
    assert result.output == (
        "1,000 contexts, old.json -> new.json\n"
        "\n"
        "flag        changed     share\n"
        "new-search      191   19.10 %  off -> on 191\n"
        "  in pilot        1   25.00 %  of 4\n"
        "new-ranker      191   19.10 %  off -> on 191\n"
        "  in pilot        1   25.00 %  of 4\n"
        "pilot-only        3    0.30 %  off -> on 2, on -> off 1\n"
        "  in pilot        3   75.00 %  of 4\n"
        "max-items     1,000  100.00 %  many -> many (changed) 1,000\n"
        "  in pilot        4  100.00 %  of 4\n"
        "retired       1,000  100.00 %  on -> (not defined) 1,000\n"
        "  in pilot        4  100.00 %  of 4\n"
        "\n"
        "added: brand-new\n"
        "removed: retired\n"
        "no change for these contexts: 2 flags\n"
    )


def test_contexts_come_from_a_file_of_json_lines() -> None:
    write("new.json", edited(steady={"rules": [{"when": [{"segment": "team"}], "serve": "on"}]}))
    lines = ['{"unit": "a", "email": "a@example.com"}', "", '{"unit": 7, "email": "b@example.org"}', '"c"', "8"]
    Path("contexts.jsonl").write_text("\n".join(lines))
    found = json.loads(diff("--contexts", "contexts.jsonl", "--flag", "steady", "--json").output)
    assert found["contexts"] == 4
    (steady,) = found["flags"]
    segments = {each["segment"]: each["members"] for each in steady["segments"]}
    assert segments == {"pilot": 0, "team": 1}
    expected = [(bucket("steady", key) < 50_000) != (key == b"a") for key in (b"a", b"7", b"c", b"8")]
    assert steady["changed"] == sum(expected)
    assert steady["percent"] == 25.0 * sum(expected)


def test_enrolments_in_a_context_count() -> None:
    write("new.json", edited(steady={"rules": [{"when": [{"enrolled": True}], "serve": "on"}]}))
    Path("c.jsonl").write_text('{"unit": "u", "enrolments": {"steady": true}}\n{"unit": "u"}\n')
    before_on = bucket("steady", b"u") < 50_000
    (steady,) = json.loads(diff("--contexts", "c.jsonl", "--flag", "steady", "--json").output)["flags"]
    assert steady["changed"] == 1
    assert steady["moves"][0]["from"] == ("on" if before_on else "off")


def test_the_same_definitions_change_nothing() -> None:
    text = json.dumps(OLD, indent=4)
    Path("new.json").write_text(text)
    result = diff("--units", "100", "--max-percent", "0")
    assert result.exit_code == 0
    assert result.output.endswith("no change for these contexts: 6 flags\n")


def test_status_2_says_which_flags_change_for_too_many() -> None:
    write("new.json", edited(**{"new-search": {"rules": [{"rollout": {"percent": 25}, "serve": "on"}]}}))
    result = diff("--units", "1000", "--max-percent", "19")
    assert result.exit_code == 2
    assert result.stderr == (
        "new-search: 19.10 % would change, more than 19 %\nnew-ranker: 19.10 % would change, more than 19 %\n"
    )
    assert diff("--units", "1000", "--max-percent", "19.1").exit_code == 0
    assert diff("--units", "1000", "--max-percent", "19", "--flag", "steady").exit_code == 0
    assert json.loads(diff("--units", "1000", "--max-percent", "19", "--json").stdout)["over"] == [
        "new-search",
        "new-ranker",
    ]


def test_both_sides_are_asked_at_the_same_time() -> None:
    ramp = {"rules": [{"rollout": {"steps": [{"from": "2030-01-01", "percent": 100}]}, "serve": "on"}]}
    write("new.json", edited(steady=ramp))
    before = json.loads(diff("--units", "100", "--json", "--now", "2029-12-31").output)
    after = json.loads(diff("--units", "100", "--json", "--now", "2030-01-02").output)
    changed = [each["changed"] for found in (before, after) for each in found["flags"] if each["flag"] == "steady"]
    assert sum(changed) == 100


def test_a_segment_asked_for_is_shown_even_when_nobody_changes() -> None:
    write("new.json", edited(steady={}))
    assert "  in team        0        -  of 0\n" in diff("--units", "100", "--segment", "team").output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "c.jsonl:3: not JSON"),
        ("[1]", "c.jsonl:3: got [1]; expected an object"),
        ("null", "c.jsonl:3: got None; expected an object"),
        ('{"unit": ""}', "c.jsonl:3: got {'unit': ''}; expected"),
        ("NaN", "c.jsonl:3: not JSON"),
        ("[" * 100_000, "c.jsonl:3: not JSON"),
    ],
)
def test_a_bad_line_is_named_by_its_number(line: str, message: str) -> None:
    write("new.json", OLD)
    Path("c.jsonl").write_text(f'"u"\n\n{line}\n')
    result = diff("--contexts", "c.jsonl")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either --contexts or --units"),
        (("--units", "1", "--contexts", "x"), "give either --contexts or --units"),
        (("--units", "0"), "Invalid value for '--units'"),
        (("--contexts", "missing.jsonl"), "missing.jsonl: cannot be read: No such file"),
        (("--contexts", "empty.jsonl"), "empty.jsonl: no contexts"),
        (("--units", "1", "--flag", "stedy"), "no flag 'stedy'; did you mean 'steady'?"),
        (("--units", "1", "--segment", "teem"), "no segment 'teem'; did you mean 'team'?"),
        (("--units", "1", "--max-percent", "101"), "Invalid value for '--max-percent'"),
    ],
)
def test_bad_input_exits_1(arguments: tuple[str, ...], message: str) -> None:
    write("new.json", OLD)
    Path("empty.jsonl").write_text("\n\n")
    result = diff(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


def test_new_definitions_with_a_refused_flag_are_no_basis_for_a_count() -> None:
    write("new.json", edited(steady={"enabled": "no"}))
    result = diff("--units", "10")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr
        == 'Error: new.json: $.flags.steady.enabled: got "no"; expected true or false (1 problem in all)\n'
    )


def test_true_and_1_are_different_values() -> None:
    condition = {"attribute": "a", "op": "in", "values": [1]}
    write("old.json", edited(steady={"rules": [{"when": [condition], "serve": "on"}]}))
    write("new.json", edited(steady={"rules": [{"when": [{**condition, "values": [True]}], "serve": "on"}]}))
    Path("c.jsonl").write_text('{"unit": "u", "a": 1}\n{"unit": "u", "a": true}\n{"unit": "u"}\n')
    (steady,) = json.loads(diff("--contexts", "c.jsonl", "--flag", "steady", "--json").output)["flags"]
    assert {(move["from"], move["to"]) for move in steady["moves"]} == {("on", "off"), ("off", "on")}


def some_document(rng: random.Random) -> dict[str, Any]:
    def condition() -> dict[str, Any]:
        return rng.choice(
            [{"segment": f"s{rng.randrange(3)}"}, {"attribute": "a", "op": "in", "values": [rng.choice([1, 2, "x"])]}]
        )

    flags: dict[str, Any] = {}
    for number in range(6):
        flag: dict[str, Any] = {"rules": [{"when": [condition()], "serve": "on"}]}
        if rng.random() < 0.5:
            flag["rules"].append({"rollout": {"percent": rng.choice([20, 60])}, "serve": "on"})
        if number and rng.random() < 0.4:
            flag["prerequisites"] = [{"flag": f"f{rng.randrange(number)}", "variants": ["on"]}]
        if rng.random() < 0.3:
            flag["kind"] = "ops"
        flags[f"f{number}"] = flag
    return {
        "schema": 1,
        "segments": {
            "s0": {"units": ["unit-1", "unit-2"]},
            "s1": {"any": [{"segment": "s0"}, {"attribute": "a", "op": "in", "values": ["x"]}]},
            "s2": {"all": [{"segment": "s1"}]},
        },
        "layers": {"l": {"slots": {"f1": [0, 50], "f2": [50, 100]}}} if rng.random() < 0.5 else {},
        "holdouts": {"h": {"percent": 30, "flags": ["*"]}} if rng.random() < 0.5 else {},
        "flags": flags,
    }


def an_edit(document: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    new = copy.deepcopy(document)
    other = some_document(rng)
    what = rng.choice(["flag", "segment", "layers", "holdouts", "owner"])
    if what == "flag":
        key = rng.choice(sorted(new["flags"]))
        new["flags"][key] = other["flags"][key]
    elif what == "segment":
        new["segments"]["s0"]["units"] = ["unit-3"]
    elif what == "owner":
        new["flags"]["f0"]["owner"] = "someone"
    else:
        new[what] = other[what]
    return new


@pytest.mark.parametrize("seed", range(60))
def test_leaving_out_untouched_flags_misses_no_change(seed: int) -> None:
    rng = random.Random(seed)
    document = some_document(rng)
    old, new = (native.parse(json.dumps(each).encode()).definitions for each in (document, an_edit(document, rng)))
    contexts = [Context(f"unit-{n}", {"a": a}) for n in range(12) for a in (1, "x", None)]
    blast = Blast(old, new, lambda: 0, old.flags, [])
    before, after = Snapshot(old, now_ms=lambda: 0), Snapshot(new, now_ms=lambda: 0)
    expected = dict.fromkeys(old.flags, 0)
    for context in contexts:
        blast.add(context)
        for key in old.flags:
            expected[key] += before.decide(key, context).variant != after.decide(key, context).variant
    assert {change.flag: change.changed for change in blast.changes} == expected
    assert {key for key, changed in expected.items() if changed} <= touched_flags(old, new)


def test_an_edit_that_decides_nothing_touches_nothing() -> None:
    new = copy.deepcopy(OLD)
    new["flags"]["steady"].update(owner="someone", description="text", expires="2030-01-01", version=3)
    old, edit = (native.parse(json.dumps(each).encode()).definitions for each in (OLD, new))
    assert touched_flags(old, edit) == set()
