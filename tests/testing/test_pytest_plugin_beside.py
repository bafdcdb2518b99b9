"""The pytest plugin beside pytest-xdist and pytest-asyncio: small test suites, run by a pytest of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]
XDIST = ("-p", "xdist.plugin", "-n", "2")
ASYNCIO = ("-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function")

APP = """
import asyncio

import flagkit


def checkout(user):
    return "new" if flagkit.enabled("new-checkout", user) else "old"


async def acheckout(user):
    await asyncio.sleep(0)
    return "new" if flagkit.enabled("new-checkout", user) else "old"
"""
HEAD = "import asyncio\nimport pytest\nimport app\n\n"

IN_WORKERS = """
@pytest.mark.parametrize("number", range(20))
def test_that_sets_a_flag(number, flags):
    assert app.checkout("user-1") == "old"
    flags.set("new-checkout", number % 2 == 0)
    assert app.checkout("user-1") == ("new" if number % 2 == 0 else "old")
    flags.assert_exposed("new-checkout", variant="on" if number % 2 == 0 else "off", unit="user-1")


@pytest.mark.both_variants("new-checkout", "other")
def test_with_either_variant(request):
    assert app.checkout("user-1") == ("new" if "new-checkout:on" in request.node.name else "old")


@pytest.mark.flags({"new-checkout": True})
def test_with_a_mark():
    assert app.checkout("user-1") == "new"


def test_that_asks_for_a_flag_nobody_knows(flags):
    app.checkout("user-1")
"""
IN_TASKS = """
@pytest.mark.asyncio
async def test_that_sets_a_flag(flags):
    assert await app.acheckout("user-1") == "old"
    flags.set("new-checkout", True)
    assert await asyncio.gather(*(asyncio.create_task(app.acheckout(f"user-{n}")) for n in range(5))) == ["new"] * 5
    assert await asyncio.to_thread(app.checkout, "user-9") == "new"
    flags.assert_exposed("new-checkout", variant="on", unit="user-3")


@pytest.mark.asyncio
@pytest.mark.flags({"new-checkout": True})
async def test_with_a_mark():
    assert await app.acheckout("user-1") == "new"


@pytest.mark.asyncio
@pytest.mark.both_variants("new-checkout")
async def test_with_either_variant(request):
    assert await app.acheckout("user-1") == ("new" if "new-checkout:on" in request.node.name else "old")


@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(4))
async def test_after_one_that_set_a_flag(number, flags):
    assert await app.acheckout("user-1") == "old"
    flags.set("new-checkout", True)


@pytest.mark.asyncio
async def test_that_asks_for_a_flag_nobody_knows(flags):
    await app.acheckout("user-1")
"""
FIXTURE_IN_TASKS = """
import pytest_asyncio


@pytest_asyncio.fixture
async def everybody_has_it(flags):
    flags.set("new-checkout", True)
    yield
    assert await app.acheckout("user-1") == "new"


@pytest.mark.asyncio
async def test_with_a_fixture_that_sets_a_flag(everybody_has_it):
    assert await app.acheckout("user-1") == "new"
"""


def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tests: str, *options: str) -> pytest.RunResult:
    # No plugin but those that are named: where flagkit is installed it would be there twice.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(app=APP, test_it=HEAD + tests)
    pytester.makeini("[pytest]\nfilterwarnings = error\npythonpath = .\n")
    strict = ("-p", "flagkit.pytest_plugin", "-p", "no:cacheprovider", "--strict-markers")
    return pytester.runpytest_subprocess(*strict, *options)


def test_workers_of_xdist_set_flags_each_for_themselves(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xdist", reason="not installed: pytest-xdist; see the extra dev")
    # Collected alike in every worker, or xdist would refuse to run them.
    result = run(pytester, monkeypatch, IN_WORKERS, *XDIST)
    result.assert_outcomes(passed=26)
    assert "created: 2/2 workers" in result.stdout.str()


def test_a_setting_of_the_run_reaches_the_workers_of_xdist(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xdist", reason="not installed: pytest-xdist; see the extra dev")
    result = run(pytester, monkeypatch, IN_WORKERS, *XDIST, "--flagkit-unknown-flags=error")
    result.assert_outcomes(failed=21, passed=5)  # those that ask before anything is set
    result.stdout.fnmatch_lines(["*'new-checkout', at *app.py:*"])


def test_tests_of_pytest_asyncio_set_flags_and_run_under_each_variant(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pytest_asyncio", reason="not installed: pytest-asyncio; see the extra dev")
    run(pytester, monkeypatch, IN_TASKS + FIXTURE_IN_TASKS, *ASYNCIO).assert_outcomes(passed=10)
    strict = run(pytester, monkeypatch, IN_TASKS, *ASYNCIO, "--flagkit-unknown-flags=error")
    strict.assert_outcomes(failed=6, passed=3)  # as above
    strict.stdout.fnmatch_lines(["*'new-checkout', at *app.py:*"])


def test_xdist_and_pytest_asyncio_go_together(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xdist", reason="not installed: pytest-xdist; see the extra dev")
    pytest.importorskip("pytest_asyncio", reason="not installed: pytest-asyncio; see the extra dev")
    run(pytester, monkeypatch, IN_TASKS, *XDIST, *ASYNCIO).assert_outcomes(passed=9)
