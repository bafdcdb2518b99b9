"""The pytest plugin, as a project meets it: small test suites, run by a pytest of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import flagkit
from flagkit import default
from tests.pages import ROOT, Reader, blocks

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
        return self._pytester.runpytest_inprocess(*strict, *options)

    def file(self, name: str, content: object) -> None:
        (self._pytester.path / name).write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    # No plugin but the one that is named: where flagkit is installed it would be there twice.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr(default, "_client", None)
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


def test_flags_answer_for_a_client_of_the_applications_own_and_afterwards_no_more(suite: Suite) -> None:
    result = suite.run("""
@pytest.fixture(autouse=True)
def own(flags):
    flags.use(app.own)

def test_its_variant_has_its_value(flags):
    flags.set("max-items", "many")
    assert app.items("user-1") == 50

def test_what_is_not_set_is_off():
    assert app.items("user-1") == 10

def test_a_variant_that_there_is_not_fails(flags):
    with pytest.raises(flagkit.ConfigError, match="expected one of its variants: 'few', 'many'"):
        flags.set("max-items", "mny")

def test_threads_and_tasks_get_it_too(flags):
    import asyncio
    from concurrent.futures import ThreadPoolExecutor
    flags.set("max-items", "many")
    async def asked():
        return await asyncio.to_thread(app.items, 1) + await asyncio.create_task(later())
    async def later():
        return app.items(2)
    with ThreadPoolExecutor() as pool:
        assert pool.submit(app.items, 3).result() == 50
    assert asyncio.run(asked()) == 100
""")
    result.assert_outcomes(passed=4)


def test_a_mark_sets_flags_before_the_fixtures_of_the_test(suite: Suite) -> None:
    result = suite.run("""
pytestmark = pytest.mark.flags({"new-checkout": True, "plan": "basic"})

@pytest.fixture
def page():
    return app.checkout("user-1"), flagkit.variant("plan", 1)

def test_of_the_module(page):
    assert page == ("new", "basic")

@pytest.mark.flags(plan="gold", new_checkout=True, **{"a.b": {"default": "on"}})
def test_the_closest_mark_has_the_last_word(page, flags):
    assert page == ("new", "gold")
    assert flagkit.enabled("new_checkout", 1) and flagkit.enabled("a.b", 1)
    flags.assert_exposed("plan", variant="gold")

@pytest.mark.flags(**{"new-checkout": False})
class TestClass:
    def test_of_the_class(self, page):
        assert page == ("old", "basic")

@pytest.mark.parametrize("plan", [pytest.param("gold", marks=pytest.mark.flags(plan="gold")), "basic"])
def test_of_a_parameter(plan):
    assert flagkit.variant("plan", 1) == plan
""")
    result.assert_outcomes(passed=5)


def test_both_variants_runs_a_test_on_and_off(suite: Suite) -> None:
    result = suite.run(
        """
@pytest.mark.both_variants("new-checkout")
def test_checkout(flags):
    assert app.checkout("user-1") in ("new", "old")
    print(flags.exposures[0].variant)
""",
        "-v",
        "-s",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*::test_checkout[[]new-checkout:on[]] on", "*[[]new-checkout:off[]] off"])


def test_several_marks_and_flags_run_in_all_combinations(suite: Suite) -> None:
    result = suite.run(
        """
@pytest.mark.both_variants("size", variants=["s", "m", "l"])
class TestSizes:
    @pytest.mark.both_variants("a", "b")
    @pytest.mark.parametrize("number", [1, 2])
    @pytest.mark.flags(size="xl", c=True)
    def test_it(self, number):
        print("met", flagkit.variant("size", 1), flagkit.enabled("a", 1), flagkit.enabled("b", 1))
        assert flagkit.enabled("c", 1)

    @pytest.mark.both_variants("size", variants=["xs"])
    def test_the_closest_mark_has_the_last_word(self):
        assert flagkit.variant("size", 1) == "xs"
""",
        "-s",
    )
    result.assert_outcomes(passed=3 * 2 * 2 * 2 + 1)
    met = [line.partition("met ")[2] for line in result.outlines if "met " in line]
    assert len(met) == 24
    assert len(set(met)) == 12


def test_the_runs_have_names_and_can_be_chosen(suite: Suite) -> None:
    tests = """
@pytest.mark.both_variants("a", "b", variants=[True, "blue", {"default": "on"}])
def test_it(flags):
    assert flagkit.variant("a", 1) == "on"
    assert flagkit.variant("b", 1) == "blue"
"""
    result = suite.run(tests, "--collect-only", "-q")
    words = ("on", "blue", "defined")
    names = [line.partition("::")[2] for line in result.outlines if "::" in line]
    assert names == [f"test_it[a:{first}+b:{second}]" for first in words for second in words]
    suite.run(tests, "-k", "a:on and b:blue").assert_outcomes(passed=1, deselected=8)


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("both_variants()", "both_variants: got (); expected the keys of flags"),
        ("both_variants(True)", "both_variants: got (True,); expected the keys of flags"),
        ("both_variants('a', variants=[])", "expected variants=[...] and nothing else"),
        ("both_variants('a', variants='on')", "expected variants=[...] and nothing else"),
        ("both_variants('a', values=[1])", "expected variants=[...] and nothing else"),
        ("flags(a=7)", "flags['a']: got 7; expected True, False, the name of a variant, or a flag's definition"),
        ("flags('a')", "answers: got 'a'; expected a mapping of flags to answers"),
    ],
)
def test_a_mark_that_is_wrong_says_so(suite: Suite, mark: str, said: str) -> None:
    result = suite.run(f"@pytest.mark.{mark}\ndef test_it(): ...\n")
    result.assert_outcomes(errors=1)
    assert said in result.stdout.str()


def test_unittest_s_tests_take_the_mark_flags_and_say_that_they_cannot_be_run_twice(suite: Suite) -> None:
    result = suite.run("""
import unittest

class TestCase(unittest.TestCase):
    @pytest.mark.flags({"new-checkout": True})
    def test_set(self):
        self.assertEqual(app.checkout(1), "new")

    @pytest.mark.both_variants("new-checkout")
    def test_both(self):
        self.assertEqual(app.checkout(1), "old")
""")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*both_variants: this kind of test cannot be run more than once; use a function*"])


UNKNOWN = """
@pytest.fixture(autouse=True)
def own(flags):
    flags.use(app.own)

def test_set(flags):
    flags.set("typo", True)
    assert flagkit.enabled("typo", 1)

def test_defined():
    assert not app.own.enabled("new-checkout", 1)

def test_unknown():
    assert not app.own.enabled("typo", 1)
"""


def test_unknown_flags_get_the_default_if_nothing_is_said(suite: Suite) -> None:
    suite.run(UNKNOWN).assert_outcomes(passed=3)


def test_unknown_flags_fail_the_test_on_request(suite: Suite) -> None:
    result = suite.run(UNKNOWN, ini="flagkit_unknown_flags = error\n")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["*flags that are neither set nor defined were asked for:*", "*'typo', at *test_it.py:*"]
    )
    suite.run(UNKNOWN, "--flagkit-unknown-flags=error").assert_outcomes(passed=2, failed=1)
    suite.run(UNKNOWN, "--flagkit-unknown-flags=default", ini="flagkit_unknown_flags = error\n").assert_outcomes(
        passed=3
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("flagkit_unknown_flags = warn", "flagkit_unknown_flags: got 'warn'; expected default or error"),
        ("flagkit_definitions = a.json b.json", "flagkit_definitions: got several files; expected one"),
    ],
)
def test_a_setting_that_is_wrong_ends_the_run(suite: Suite, setting: str, said: str) -> None:
    result = suite.run("", ini=setting + "\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()


def test_a_definitions_file_says_which_flags_there_are(suite: Suite) -> None:
    variants = {"few": 10, "many": 50}
    suite.file(
        "flags.json", {"schema": 1, "flags": {"max-items": {"variants": variants, "off": "few", "default": "many"}}}
    )
    result = suite.run(
        """
def test_off(flags):
    assert flagkit.value("max-items", 1, default=0) == 10

@pytest.mark.flags({"max-items": "many"})
def test_set():
    assert flagkit.value("max-items", 1, default=0) == 50

@pytest.mark.flags(max_items=True)
def test_misspelt(): ...

@pytest.mark.flags({"max-items": "mny"})
def test_misspelt_variant(): ...
""",
        ini="flagkit_unknown_flags = error\nflagkit_definitions = flags.json\n",
    )
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(
        ["*flag: got 'max_items'; expected a flag that is defined; unknown flags are errors here*"]
    )
    gone = suite.run("def test_it(flags): ...\n", ini="flagkit_definitions = gone.json\n")
    gone.assert_outcomes(errors=1)
    gone.stdout.fnmatch_lines(["*flagkit_definitions: *gone.json cannot be read (No such file or directory)*"])


def test_of_a_flag_with_more_variants_in_the_definitions_each_is_run(suite: Suite) -> None:
    written = {"variants": {"few": 1, "many": 2, "lots": 3}, "off": "few", "default": "many"}
    suite.file("flags.json", {"schema": 1, "flags": {"max-items": written, "new": {}}})
    result = suite.run(
        """
@pytest.mark.both_variants("max-items")
@pytest.mark.both_variants("new", "unheard-of")
def test_it(flags):
    print("ran", flagkit.variant("max-items", 1), flagkit.enabled("new", 1))
""",
        "-s",
        ini="flagkit_definitions = flags.json\n",
    )
    result.assert_outcomes(passed=12)
    told = result.stdout.str()
    assert [told.count(f"ran {name} {new}") for name in ("few", "many", "lots") for new in (True, False)] == [2] * 6


def test_a_fixture_flags_of_the_projects_own_is_no_hindrance(suite: Suite) -> None:
    result = suite.run("""
@pytest.fixture
def flags():
    return ["--verbose"]

@pytest.mark.flags({"new-checkout": True})
def test_it(flags, flagkit_flags):
    assert flags == ["--verbose"]
    assert app.checkout(1) == "new"
    flagkit_flags.assert_exposed("new-checkout")
""")
    result.assert_outcomes(passed=1)


def test_one_test_that_fails_leaves_nothing_to_the_next(suite: Suite) -> None:
    result = suite.run("""
@pytest.mark.flags({"new-checkout": True})
def test_fails(flags):
    assert app.checkout(1) == "broken"

def test_next(flags):
    assert app.checkout(1) == "old" and len(flags.exposures) == 0

def test_last():
    assert flagkit.decide("new-checkout", 1).error_code == "PROVIDER_NOT_READY"
    assert app.own.enabled("new-checkout", 1)
""")
    result.assert_outcomes(failed=1, passed=2)


def test_coroutine_tests_of_anyio_have_flags(suite: Suite) -> None:
    pytest.importorskip("anyio", reason="comes with httpx, of the extra dev")
    result = suite.run(
        """
@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
@pytest.mark.both_variants("new-checkout")
async def test_it(flags):
    wanted = {"on": "new", "off": "old"}
    answer = app.checkout("user-1")
    assert wanted[flags.exposures[0].variant] == answer
""",
        "-p",
        "anyio.pytest_plugin",
    )
    result.assert_outcomes(passed=2)


UNUSED = """
import sys

def test_it():
    loaded = [name for name in sys.modules if name.startswith("flagkit.testing") or name == "requests"]
    assert not loaded, loaded
"""
USED = """
import flagkit

def test_it(flags):
    flags.set("f")
    assert flagkit.enabled("f", 1)
"""


def run_apart(directory: Path, tests: str, *options: str, **environment: str) -> str:
    """What a pytest says in a process of its own."""
    (directory / "test_it.py").write_text(tests, encoding="utf-8")
    command = [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", *options]
    here = str(Path(flagkit.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(directory), here]), **environment}
    done = subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_a_run_without_flags_loads_nothing_that_is_for_them(tmp_path: Path) -> None:
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    assert "1 passed" in run_apart(tmp_path, UNUSED, "-p", "flagkit.pytest_plugin", **alone)


def test_where_flagkit_is_installed_pytest_finds_the_plugin(tmp_path: Path) -> None:
    # As an installer would write it, of a distribution by another name, because this one may be installed.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (name, module) = next(iter(project["entry-points"]["pytest11"].items()))
    metadata = tmp_path / "installed-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[pytest11]\n{name} = {module}\n", encoding="utf-8")
    # What else is installed warns of its own settings, and warnings are errors here.
    assert "1 passed" in run_apart(tmp_path, USED, "-p", "no:asyncio")
    assert "fixture 'flags' not found" in run_apart(tmp_path, USED, "-p", "no:asyncio", "-p", "no:flagkit")


CONTRACTS = """
from flagkit.events import Delivered
from flagkit.sources import Fetched, Static
from flagkit.testing import MemorySink, SinkContract, SinkStage, SourceContract, SourceStage


class GoodSource(Static):
    name = "good"


class BadSource(Static):
    name = "bad:s3cret"

    def fetch(self, validator, *, deadline_s, max_bytes):
        return Fetched(self._data, "1")


class BadSink(MemorySink):
    name = "bad"

    def send(self, batch, *, deadline_s):
        raise OSError("unreachable")


class TestGoodSource(SourceContract):
    @pytest.fixture
    def stage(self):
        return SourceStage(GoodSource(self.DOCUMENT))


class TestBadSource(SourceContract):
    @pytest.fixture
    def stage(self):
        return SourceStage(BadSource(self.DOCUMENT), secrets=("s3cret",))


class TestGoodSink(SinkContract):
    @pytest.fixture
    def stage(self):
        sink = MemorySink()
        return SinkStage(sink, arrived=lambda: sink.events)


class TestBadSink(SinkContract):
    @pytest.fixture
    def stage(self):
        return SinkStage(BadSink(), arrived=list)


class TestNoStage(SinkContract): ...
"""


def test_the_contracts_pass_what_keeps_them_and_fail_what_does_not(suite: Suite) -> None:
    result = suite.run(CONTRACTS)
    outcomes = result.parseoutcomes()
    for line in (
        "FAILED test_it.py::TestBadSource::test_it_says_who_it_is_without_a_secret*",
        "FAILED test_it.py::TestBadSource::test_given_the_validator_of_its_document_it_says_not_modified*",
        "FAILED test_it.py::TestBadSource::test_it_takes_a_document_of_exactly_the_bound_and_none_larger*",
        "FAILED test_it.py::TestBadSink::test_it_delivers_the_events_of_a_batch_in_order*",
    ):
        result.stdout.fnmatch_lines([line])
    assert "::TestGood" not in result.stdout.str()
    assert outcomes["errors"] == 10
    assert "needs a fixture `stage` that gives a SinkStage" in result.stdout.str()


def test_the_tests_in_the_documentation_pass(suite: Suite, pytester: pytest.Pytester) -> None:
    Reader(ROOT / "docs" / "testing.md").follow()
    result = pytester.runpytest_inprocess("-p", "flagkit.pytest_plugin", "-p", "no:cacheprovider", "-W", "error", "-v")
    result.assert_outcomes(passed=6 + 9 + 8, skipped=1 + 2)
    shown = next(block.text for block in blocks(ROOT / "docs" / "testing.md") if block.language == "text")
    passed = [line.partition(" [ ")[0].rstrip() for line in result.outlines if line.startswith("test_shop.py::")]
    assert [line.partition(" [100%")[0].rstrip() for line in passed] == shown.splitlines()
