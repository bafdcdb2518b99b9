"""The pytest plugin: the fixture ``flags``, the marks ``flags`` and ``both_variants``, and two settings.

Loaded by every pytest run where flagkit is installed, so it imports pytest only; ``flagkit.testing`` comes with the
first test that uses flags. What flags answer is its matter; this knows when a test begins and ends.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from flagkit.testing import Flags

_FLAGS: Final = pytest.StashKey["Flags"]()
_UNKNOWN: Final = ("default", "error")
_BOTH: Final = (True, False)
_MARKS: Final = (
    "flags(answers, **more): what flags answer in the test: True, False, a variant, or a definition.",
    "both_variants(*flags, variants=(True, False)): run the test once for each variant of each flag.",
)
#: Their asserts say what they compared, as those of a project's own tests do.
_REWRITTEN: Final = ("flagkit.testing.sinks", "flagkit.testing.sources")
pytest.register_assert_rewrite(*(name for name in _REWRITTEN if name not in sys.modules))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("flagkit")
    group.addoption(
        "--flagkit-unknown-flags",
        choices=_UNKNOWN,
        help="as flagkit_unknown_flags, for this run",
    )
    unknown = "default or error: what becomes of a flag that is asked for and neither set nor defined"
    parser.addini("flagkit_unknown_flags", unknown, default="default")
    parser.addini("flagkit_definitions", "the native definitions file that says which flags exist", type="paths")


def pytest_configure(config: pytest.Config) -> None:
    for mark in _MARKS:
        config.addinivalue_line("markers", mark)
    if _unknown(config) not in _UNKNOWN:
        raise pytest.UsageError(f"flagkit_unknown_flags: got {_unknown(config)!r}; expected default or error")
    if len(config.getini("flagkit_definitions")) > 1:
        raise pytest.UsageError("flagkit_definitions: got several files; expected one")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = list(metafunc.definition.iter_markers("both_variants"))
    if not marks or "_flagkit_marks" not in metafunc.fixturenames:
        return
    choices: dict[str, tuple[Any, ...]] = {}
    for mark in reversed(marks):  # the closest mark has the last word
        choices.update(_choices(mark, metafunc))
    runs = [dict(zip(choices, run, strict=True)) for run in itertools.product(*choices.values())]
    metafunc.parametrize("_flagkit_marks", runs, indirect=True, ids=[_named(run) for run in runs])


@pytest.fixture(autouse=True)
def _flagkit_marks(request: pytest.FixtureRequest) -> None:
    """Sets what the test's marks say, before the fixtures that it asks for."""
    node = request.node
    marks = list(node.iter_markers("flags"))
    variants = getattr(request, "param", None)
    if variants is None and node.get_closest_marker("both_variants") is not None:
        pytest.fail("both_variants: this kind of test cannot be run more than once; use a function", pytrace=False)
    if not marks and variants is None:
        return
    flags: Flags = request.getfixturevalue("flagkit_flags")
    for mark in reversed(marks):
        for answers in (*mark.args, mark.kwargs):
            flags.update(answers)
    flags.update(variants or {})


@pytest.fixture
def flagkit_flags(request: pytest.FixtureRequest) -> Iterator[Flags]:
    """What the fixture ``flags`` is, for projects that have another of that name."""
    from flagkit.testing import Flags

    paths = request.config.getini("flagkit_definitions")
    with Flags(definitions=_document(paths), unknown=_unknown(request.config)) as flags:
        request.node.stash[_FLAGS] = flags
        yield flags


@pytest.fixture
def flags(flagkit_flags: Flags) -> Flags:
    """What flags answer during the test, and what was exposed: a ``flagkit.testing.Flags``."""
    return flagkit_flags


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    result = yield
    flags = item.stash.get(_FLAGS, None)
    if flags is not None:
        _check(flags)
    return result


def _check(flags: Flags) -> None:
    try:
        flags.check()
    except AssertionError as error:
        said = str(error)
    else:
        return
    pytest.fail(said, pytrace=False)


def _unknown(config: pytest.Config) -> Any:
    return config.getoption("flagkit_unknown_flags") or config.getini("flagkit_unknown_flags")


def _document(paths: list[Any]) -> bytes | None:
    if not paths:
        return None
    try:
        data: bytes = paths[0].read_bytes()
    except OSError as error:
        pytest.fail(f"flagkit_definitions: {paths[0]} cannot be read ({error.strerror})", pytrace=False)
    return data


def _choices(mark: pytest.Mark, metafunc: pytest.Metafunc) -> dict[str, tuple[Any, ...]]:
    """Flag -> the answers that the test is run with."""
    variants, test = mark.kwargs.get("variants", _BOTH), metafunc.definition.nodeid
    if not mark.args or not all(isinstance(flag, str) for flag in mark.args):
        pytest.fail(f"{test}: both_variants: got {mark.args!r}; expected the keys of flags", pytrace=False)
    if not variants or not isinstance(variants, (list, tuple)) or not mark.kwargs.keys() <= {"variants"}:
        said = f"{test}: both_variants: got {mark.kwargs!r}; expected variants=[...] and nothing else"
        pytest.fail(said, pytrace=False)
    if variants is not _BOTH:
        return dict.fromkeys(mark.args, tuple(variants))
    return {flag: _variants(flag, metafunc.config) for flag in mark.args}


def _variants(flag: str, config: pytest.Config) -> tuple[Any, ...]:
    """All of a flag's variants, where the definitions have more than two of it; else on and off."""
    data = _document(config.getini("flagkit_definitions"))
    if data is None:
        return _BOTH
    from flagkit.dialects import native
    from flagkit.errors import DefinitionsError

    try:
        known = native.parse(data).definitions.flags.get(flag)
    except DefinitionsError:
        return _BOTH  # the fixture says what is wrong with it
    return tuple(known.variants) if known is not None and len(known.variants) > 2 else _BOTH


def _named(run: dict[str, Any]) -> str:
    """A test's id: ``new-checkout:on``, with more flags ``a:on+b:off``. The option -k takes it as it is."""
    return "+".join(f"{flag}:{_word(answer)}" for flag, answer in run.items())


def _word(answer: object) -> str:
    if isinstance(answer, bool):
        return "on" if answer else "off"
    return answer if isinstance(answer, str) else "defined"
