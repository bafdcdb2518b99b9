"""The flags that Python code asks for, as ``flagkit lint`` reads them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from flagkit.cli.code_flags import CodeFlags, read_code


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def code(**files: str) -> CodeFlags:
    for name, text in files.items():
        path = Path("src", *name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return read_code(["src"])


def used(found: CodeFlags) -> list[tuple[str, int]]:
    return [(use.flag, use.line) for use in found.uses]


def test_calls_decorators_and_context_managers_name_flags() -> None:
    found = code(
        app="""
        import flagkit

        client = flagkit.Client("https://flags.example.com")

        if client.enabled("called"): ...
        name = client.variant("a-variant", user) or client.value(flag="by-keyword", default=1)
        client.decide("decided"); client.peek("peeked"); client.explain("explained")

        @client.gate("decorated", otherwise=old)
        def new(): ...

        @flagkit.shadow("shadowed", candidate)
        async def control(): ...

        with client.gate("managed") as gate, client.override({"forced": True, "also-forced": "on"}):
            gate.variant
        """
    )
    assert used(found) == [
        ("called", 6),
        ("a-variant", 7),
        ("by-keyword", 7),
        ("decided", 8),
        ("peeked", 8),
        ("explained", 8),
        ("decorated", 10),
        ("shadowed", 13),
        ("managed", 16),
        ("forced", 16),
        ("also-forced", 16),
    ]
    assert found.unread == ()


def test_the_module_and_its_functions_may_go_by_other_names() -> None:
    found = code(
        app="""
        import flagkit as fk
        from flagkit import enabled, gate as guarded_by

        fk.enabled("module"); enabled("function")

        @guarded_by("renamed", otherwise=None)
        def f(): ...
        """
    )
    assert used(found) == [("module", 5), ("function", 5), ("renamed", 7)]


@pytest.mark.parametrize(
    "source",
    [
        "def f(c: flagkit.Client): c.enabled('x')",
        "def f(c: flagkit.Client | None = None): c.enabled('x')",
        "class A:\n  def __init__(self): self.c = flagkit.Client.from_file('f')\n  def f(self): self.c.enabled('x')",
        "with flagkit.Client('u') as c: c.enabled('x')",
        "def get() -> flagkit.Client: ...\nget().enabled('x')",
        "app.state.c = flagkit.configure('u')\nrequest.app.state.c.enabled('x')",
        "c: flagkit.Client\nc.enabled('x')",
        "(c := flagkit.Client('u')).enabled('x') or c.enabled('x')",
        "self.feature_flags.enabled('x')",
        "client.enabled('x')",
        "openfeature.get_boolean_value('x', False)",
        "await client.get_object_details_async(flag_key='x', default_value={})",
    ],
)
def test_clients_are_known_by_what_they_were_made_or_named(source: str) -> None:
    lines = ["import flagkit", "async def main():", *(f"    {line}" for line in source.split("\n"))]
    assert {use.flag for use in code(app="\n".join(lines)).uses} == {"x"}


def test_the_client_of_another_file_is_known() -> None:
    found = code(
        flags="from flagkit import Client\nff = Client.from_file('flags.json')\n",
        views="from flags import ff\nff.enabled('one')\n",
        tasks="from flags import ff as toggles\ntoggles.enabled('two')\nimport flags\nflags.ff.enabled('three')\n",
    )
    assert {use.flag for use in found.uses} == {"one", "two", "three"}


def test_other_objects_with_such_methods_are_left_alone() -> None:
    found = code(app="config.value('x')\ncursor.decide('y')\nlogger.enabled('z')\nclient.value()\nclient.value(5)\n")
    assert (found.uses, found.unread) == ((), ())
    assert found.mentions == {"x", "y", "z"}


def test_constants_are_followed_across_files() -> None:
    found = code(
        names="""
        from enum import StrEnum
        NEW_SEARCH = "new-search"
        class Flags(StrEnum):
            CHECKOUT = "new-checkout"
        try:
            OPTIONAL = "optional"
        except ImportError:
            OPTIONAL = "fallback"
        """,
        app="""
        from names import NEW_SEARCH as SEARCH, Flags, OPTIONAL
        import names
        LOCAL = "local"
        client.enabled(SEARCH)
        client.enabled(Flags.CHECKOUT)
        client.enabled(Flags.CHECKOUT.value)
        client.enabled(names.NEW_SEARCH)
        client.enabled(LOCAL)
        client.enabled("left" if x else "right")
        client.override({SEARCH: True})
        client.enabled(OPTIONAL)
        """,
    )
    assert [flag for flag, _ in used(found)][:8] == [
        "new-search",
        "new-checkout",
        "new-checkout",
        "new-search",
        "local",
        "left",
        "right",
        "new-search",
    ]
    assert {flag for flag, _ in used(found)[8:]} == {"optional", "fallback"}
    assert found.unread == ()


def test_declared_flags_are_uses_and_constants() -> None:
    found = code(
        flags="import flagkit\nMAX = flagkit.Flag('max-items', default=10, owner='a', expires='2026-01-31')\n",
        app="""
        from flags import MAX
        from flagkit import Flag as F
        client.value(MAX)
        client.value(F('inline', default=1))
        """,
    )
    assert sorted((use.flag, use.path, use.line, use.expires) for use in found.uses) == [
        ("inline", "src/app.py", 5, None),
        ("inline", "src/app.py", 5, None),
        ("max-items", "src/app.py", 4, None),
        ("max-items", "src/flags.py", 2, "2026-01-31"),
    ]


def test_a_flag_named_at_run_time_is_reported_as_not_checked() -> None:
    found = code(
        other="flag = 'constant-of-another-file'\n",
        app="""
        def on(flag):
            return client.enabled(flag)
        client.enabled(f"new-{name}")
        client.enabled(names[0])
        client.enabled(make())  # flagkit: ignore
        """,
    )
    assert used(found) == []
    assert [(place.path, place.line) for place in found.unread] == [
        ("src/app.py", 3),
        ("src/app.py", 4),
        ("src/app.py", 5),
    ]


def test_a_comment_ignores_a_call() -> None:
    found = code(
        app="""
        client.enabled('a')  # flagkit: ignore
        client.enabled(
            'b',  #flagkit:ignore because
        )
        client.enabled('c')
        """
    )
    assert {use.flag: use.ignored for use in found.uses} == {"a": True, "b": True, "c": False}


def test_files_that_are_not_python_are_named() -> None:
    found = code(
        good="client.enabled('x')\n", syntax="\n\ndef (:\n", null="x = 1\0\n", deep="x = " + "(" * 5000 + ")" * 5000
    )
    assert used(found) == [("x", 1)]
    assert {place.path: place.line for place in found.broken}.keys() == {"src/syntax.py", "src/null.py", "src/deep.py"}
    assert {place.line for place in found.broken if place.path == "src/syntax.py"} == {3}


def test_environments_hidden_directories_and_loops_are_left_out() -> None:
    code(app="client.enabled('x')\n", venv__lib__site="client.enabled('no')\n")
    Path("src/venv/pyvenv.cfg").touch()
    for name in (".hidden", "node_modules", "__pycache__", "site-packages"):
        Path("src", name).mkdir()
        Path("src", name, "a.py").write_text("client.enabled('no')\n")
    Path("src/loop").symlink_to(Path("src").absolute())
    assert used(read_code(["src"])) == [("x", 1)]
    assert used(read_code(["src/app.py"])) == [("x", 1)]


def test_a_source_may_be_in_any_encoding_python_reads() -> None:
    Path("src").mkdir()
    Path("src/app.py").write_bytes(
        "# coding: latin-1\nx = 'é'\nclient.enabled('y')  # flagkit: ignore\n".encode("latin-1")
    )
    (use,) = read_code(["src"]).uses
    assert (use.flag, use.line, use.ignored) == ("y", 3, True)
