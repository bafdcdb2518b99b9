"""The manual is true: its code runs, its output is real, its JSON is valid, and its references leave nothing out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flagkit
from flagkit import default
from flagkit.cli.root import COMMANDS
from flagkit.core import bucketing
from flagkit.core.operators import OPERATORS
from flagkit.decision import ErrorCode, Reason
from flagkit.schema import load_schema
from flagkit.server import intake
from tests.pages import PAGES, ROOT, Reader

#: Followed with a real service at hand, in tests/e2e/test_examples.py.
WITH_SERVICE = "quickstart.md"

_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
_VECTOR = re.compile(r"^\| `([^`]*)` \| `([^`]*)` \| (\d) \| (\d+) \| (\d+) \|$", re.MULTILINE)


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture
def no_default_client() -> Iterator[None]:
    yield
    if default._client is not None:
        default._client.close(0)
        default._client = None


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != WITH_SERVICE], ids=lambda path: path.name)
@pytest.mark.usefixtures("no_default_client")
def test_the_page_does_what_it_says(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Reader(path).follow()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target, anchor in _LINK.findall(path.read_text(encoding="utf-8")):
        there = (path.parent / target) if target else path
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_has_the_two_commands() -> None:
    lines = page("README.md").splitlines()
    assert "python -m venv .venv && .venv/bin/pip install -e '.[server]' && .venv/bin/flagkit demo" in lines
    assert "python -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/pytest" in lines


def test_the_readme_names_every_public_name() -> None:
    assert [name for name in flagkit.__all__ if not re.search(rf"\b{name}\b", page("README.md"))] == []


@pytest.mark.parametrize("name", flagkit.Config.__slots__)
def test_every_setting_is_explained(name: str) -> None:
    assert f"| `{name}` |" in page("docs/concepts.md")


@pytest.mark.parametrize("word", [*Reason, *ErrorCode])
def test_every_reason_is_explained(word: str) -> None:
    assert f"| `{word}` |" in page("docs/concepts.md")


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_operator_is_in_the_reference(name: str) -> None:
    assert f"| `{name}` |" in page("docs/definitions.md")


def test_the_readme_counts_the_operators() -> None:
    assert f"{len(OPERATORS)} operators" in page("README.md")


def test_every_field_of_the_schema_is_in_the_reference() -> None:
    reference = page("docs/definitions.md")
    guard = set(fields(load_schema()["$defs"]["guard"]))  # they are in the page of guards
    missing = {name for name in fields(load_schema()) if f'"{name}"' not in reference and f"`{name}`" not in reference}
    assert missing - guard == set()


def fields(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "properties" and isinstance(value, dict):
                yield from value
            yield from fields(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from fields(item)


def test_the_golden_vectors_of_the_reference_hold() -> None:
    known = json.loads((ROOT / "tests/spec/bucketing.json").read_text(encoding="utf-8"))["vectors"]
    shown = _VECTOR.findall(page("docs/definitions.md"))
    assert len(shown) >= 10
    for salt, unit, seed, digest, bucket in shown:
        assert {"salt": salt, "unit": unit, "seed": int(seed), "hash": int(digest), "bucket": int(bucket)} in known
        assert bucketing.bucket(salt, unit.encode(), int(seed)) == int(bucket)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_a_section(name: str) -> None:
    headings = [line for path in PAGES for line in path.read_text(encoding="utf-8").splitlines() if line[:3] == "## "]
    assert any(heading.startswith(f"## `flagkit {name}") for heading in headings)


def test_the_limits_of_the_service_are_its_own() -> None:
    said = page("docs/service.md")
    assert f"{intake.MAX_EVENTS:,} events" in said
    assert f"{intake.MAX_EVENT_BYTES // 1024} KiB" in said
    assert f"{intake.MAX_BODY_BYTES // 1024**2} MiB" in said
    assert f"{intake.MAX_WIRE_BYTES // 1024**2} MiB" in said
