"""How soon a guard finds a regression, as it is told beforehand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from flagkit.cli.root import main
from flagkit.production.power import expected_calls

#: Error rate, share, ratio -> the median of many simulated streams, with errors alone judged (docs/guards.md).
SIMULATED = {
    (0.01, 0.05, 2): 3769,
    (0.01, 0.05, 5): 236,
    (0.01, 0.5, 2): 8386,
    (0.01, 0.5, 5): 626,
    (0.001, 0.05, 5): 2370,
    (0.001, 0.5, 5): 6192,
}


@pytest.mark.parametrize("case", SIMULATED)
def test_it_is_near_what_was_simulated(case: tuple[float, float, float]) -> None:
    expected = expected_calls(*case)
    assert expected is not None
    assert 0.75 < expected / SIMULATED[case] < 1.4


def test_more_is_found_sooner_and_less_alpha_later() -> None:
    found = [expected_calls(0.01, 0.1, ratio) or 0 for ratio in (1.5, 2, 5, 10, 50)]
    assert found == sorted(found, reverse=True)
    assert (expected_calls(0.01, 0.1, 5, alpha=0.001) or 0) > (expected_calls(0.01, 0.1, 5) or 0)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.95])
def test_more_is_found_no_later_whatever_the_rate_and_what_cannot_be_more_is_not_found(
    rate: float, share: float
) -> None:
    found = [expected_calls(rate, share, ratio) or math.inf for ratio in (1.5, 2, 3, 5, 10, 50, 1000)]
    assert found == sorted(found, reverse=True)
    assert (found[-1] == math.inf) == (rate >= 0.8)  # of 5 calls 4 fail: at most 1.25 as many can


def test_what_is_tolerated_is_never_found_and_few_units_find_little() -> None:
    assert expected_calls(0.01, 0.5, 1.2) is None
    assert expected_calls(0.01, 0.5, 2, units=20) is None
    assert expected_calls(0.01, 0.5, 50, units=200) is not None


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"rate": 1}, {"share": 0}, {"share": 1}, {"alpha": 0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="over 0 and under 1"):
        expected_calls(**{"rate": 0.1, "share": 0.1, "ratio": 2, **wrong})


def run(*words: str) -> str:
    result = CliRunner().invoke(main, ["power", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_prints_a_row_a_ratio() -> None:
    lines = run("f", "--rate", "0.01", "--share", "5").splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["x2", "x5", "x10", "x50"]
    assert lines[5].startswith("alpha 0.01, error tolerance 0.25;")


def test_policy_and_share_come_from_a_file_and_time_from_a_rate_of_calls(tmp_path: Path) -> None:
    flag = {"guard": {"alpha": 0.001}, "rules": [{"rollout": {"percent": 5}, "serve": "on"}]}
    (tmp_path / "flags.json").write_text(json.dumps({"schema": 1, "flags": {"f": flag}}))
    said = run("f", "--file", str(tmp_path / "flags.json"), "--rate", "0.01", "--a-second", "100")
    assert "alpha 0.001" in said
    assert said.splitlines()[0].split() == ["errors", "candidate", "calls", "about"]


@pytest.mark.parametrize(("guard", "why"), [(None, []), ({"alpha": 0}, ["alpha: got 0; expected a number over 0"])])
def test_a_flag_that_is_served_without_a_guard_is_said_to_be(tmp_path: Path, guard: object, why: list[str]) -> None:
    flag = {"rules": [{"rollout": {"percent": 5}, "serve": "on"}], **({"guard": guard} if guard else {})}
    (tmp_path / "flags.json").write_text(json.dumps({"schema": 1, "flags": {"f": flag}}))
    said = run("f", "--file", str(tmp_path / "flags.json"), "--rate", "0.01")
    assert "f is served without a guard; with one and its defaults:" in said
    assert all(each in said for each in why)


def test_without_a_share_it_says_what_it_needs() -> None:
    result = CliRunner().invoke(main, ["power", "f", "--rate", "0.01"])
    assert result.exit_code == 1
    assert "--share: expected" in result.output
