"""Settings: checked when they are made, frozen afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flagkit import Config, ConfigError

NUMBERS = {
    "poll_interval_s": (0.05, 86_400),
    "flush_interval_s": (0.05, 3600),
    "deadline_s": (0.05, 300),
    "exit_deadline_s": (0, 60),
}
WHOLE = {
    "batch_size": (1, 10_000),
    "max_pending": (1, 10_000_000),
    "exposure_window_s": (60, 86_400),
    "max_exposed_units": (0, 100_000_000),
    "max_document_bytes": (1024, 1 << 30),
    "max_event_bytes": (256, 1_000_000),
    "max_age_s": (60, 31_536_000),
    "max_spool_bytes": (64 * 1024, 1 << 40),
    "max_spool_age_s": (60, 31_536_000),
}
RANGES = NUMBERS | WHOLE


def test_every_setting_has_a_default_and_a_range() -> None:
    config = Config()
    assert set(Config.__slots__) == {*RANGES, "environment", "processes", "state_dir"}
    assert (config.environment, config.state_dir) == (None, None)
    for name, (least, most) in RANGES.items():
        assert least <= getattr(config, name) <= most


@pytest.mark.parametrize("name", RANGES)
def test_the_ends_of_a_range_are_in_it_and_what_lies_beyond_is_not(name: str) -> None:
    least, most = RANGES[name]
    for good in (least, most):
        assert getattr(Config(**{name: good}), name) == good
    beyond = (
        (least - 1, most + 1) if name in WHOLE else (least - 0.01, most * 1.01, float("nan"), float("inf"), 10**400)
    )
    strange: list[Any] = [None, "5", True, [], 1j, *beyond]
    if name in WHOLE:
        strange += [float(least), 10**400]
    for value in strange:
        with pytest.raises(ConfigError, match=f"^{name}: got ") as caught:
            Config(**{name: value})
        assert caught.value.field == name
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("said", "meant"), [("4", 4), ("", 8), ("0", 8), ("many", 8), ("-2", 8), ("9" * 50, 8)])
def test_processes_are_those_the_environment_speaks_of_or_a_few_too_many(
    said: str, meant: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", said)
    assert (Config().processes, Config(processes=2).processes) == (meant, 2)
    for wrong in (0, 100_001, 2.0, True):
        with pytest.raises(ConfigError, match=r"^processes: got "):
            Config(processes=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("environment", ["production", "x" * 128])
def test_an_environment_is_a_name(environment: str) -> None:
    assert Config(environment=environment).environment == environment


@pytest.mark.parametrize("environment", ["", "x" * 129, 7, b"production", ["production"]])
def test_anything_else_is_no_environment(environment: Any) -> None:
    with pytest.raises(ConfigError, match=r"^environment: got"):
        Config(environment=environment)


@pytest.mark.parametrize("path", ["state", "/var/lib/app", "/tmp/ü \udcff", Path("state")])
def test_a_state_directory_is_a_path(path: Any) -> None:
    assert Config(state_dir=path).state_dir == path


class Pathless:
    def __fspath__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("path", ["", "a\0b", "\ud800", 7, True, b"state", ["state"], Pathless(), Path])
def test_anything_else_is_no_state_directory(path: Any) -> None:
    with pytest.raises(ConfigError, match=r"^state_dir: got"):
        Config(state_dir=path)


def test_a_config_is_frozen_and_shows_itself() -> None:
    config = Config(batch_size=7, environment="test")
    with pytest.raises(AttributeError, match="frozen"):
        config.batch_size = 8
    assert repr(eval(repr(config))) == repr(config)


def test_settings_are_named_and_known() -> None:
    strange: Any = Config
    with pytest.raises(TypeError):
        strange(30)
    with pytest.raises(TypeError, match="poll_interval"):
        strange(poll_interval=30)
