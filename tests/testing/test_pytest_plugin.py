"""The pytest plugin, as a project meets it: small test suites, run by a pytest of their own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import flagkit

pytest_plugins = ["pytester"]

#: An application that asks the default client, and has one of its own; the file says what production would answer.
APP = """
import flagkit

own = flagkit.Client(source=flagkit.sources.Static({"schema": 1, "flags": {
    "new-checkout": {"default": "on"},
    "max-items": {"variants": {"few": 10, "many": 50}, "off": "few", "default": "many"},
}}))


def checkout(user):
    return "new" if flagkit.enabled("new-checkout", user) else "old"


def items(user):
    return own.value("max-items", user, default=1)
"""


class Suite:
    """A project with that application, and tests."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        pytester.makepyfile(app=APP)

    def run(self, tests: str, *options: str, ini: str = "") -> pytest.RunResult:
        head = "import flagkit\nimport pytest\n\nimport app\n\n"
        self._pytester.makepyfile(test_it=head + tests)
        self._pytester.makeini("[pytest]\nfilterwarnings = error\n" + ini)
        strict = ("-p", "flagkit.pytest_plugin", "-p", "no:cacheprovider", "--strict-markers", "--strict-config")
        return self._pytester.runpytest_subprocess(*strict, *options)

    def file(self, name: str, content: object) -> None:
        (self._pytester.path / name).write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    # No plugin but the one that is named: where flagkit is installed it would be there twice.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    here = str(Path(flagkit.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
    return Suite(pytester)


def test_a_test_sets_flags_and_sees_who_met_them(suite: Suite) -> None:
    result = suite.run("""
def test_new(flags):
    flags.set("new-checkout", True)
    assert app.checkout("user-1") == "new"
    flags.assert_exposed("new-checkout", variant="on", unit="user-1")
    flags.assert_not_exposed("new-checkout", unit="user-2")
    assert [(e.flag, e.variant, e.unit) for e in flags.exposures] == [("new-checkout", "on", "user-1")]

def test_what_is_not_set_is_off(flags):
    assert app.checkout("user-1") == "old"
    assert flags.exposures == []

def test_without_flags_nothing_is_set():
    assert app.checkout("user-1") == "old"
    assert app.items("user-1") == 50
""")
    result.assert_outcomes(passed=3)
