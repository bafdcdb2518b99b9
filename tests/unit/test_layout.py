"""The shape of the package: who may import whom, what only one place may touch, and that importing does nothing.

Imports are read from the source, those inside functions and under TYPE_CHECKING included.
"""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "flagkit"

#: A room is a top-level module or folder. Each may import rooms of the floors before its own, and itself.
FLOORS = (
    {"ambient", "boundary", "errors", "log", "context", "decision", "events", "config", "clock", "frozen", "schema"},
    {"core", "http", "disk", "redis_wire", "unleash_wire"},
    {"dialects", "sources", "sinks", "fleets"},
    {"runtime", "production", "changes"},
    {"alerting", "arguments", "client", "counting", "flags", "default", "guarding", "invocation", "shadowing"},
    {"integrations", "testing", "server"},
    {"cli", "pytest_plugin", "__init__", "__main__"},
)
#: Neighbours on one floor that may be imported all the same. Nothing on the ground floor is above the rest of it.
NEIGHBOURS = {
    **dict.fromkeys(FLOORS[0], FLOORS[0]),
    "redis_wire": {"http"},
    "unleash_wire": {"http"},
    "counting": {"arguments", "flags"},
    "client": {"alerting", "arguments", "counting", "flags", "guarding", "invocation", "shadowing"},
    "default": {"arguments", "client", "flags", "shadowing"},
    "cli": {"__init__"},
    "__main__": {"cli"},
    "pytest_plugin": {"__init__"},
}
#: Floors below that are out of bounds.
NEVER = {
    "core": {"clock", "config", "events", "schema"},
    "http": {"context", "decision", "events", "schema"},
    "disk": FLOORS[0],
    "redis_wire": FLOORS[0] - {"errors"},
    "unleash_wire": FLOORS[0] - {"errors"},
    "dialects": {"http", "clock", "config", "events"},
    "sources": {"core", "context", "decision", "events"},
    "sinks": {"core", "context"},
    "fleets": {"core", "context", "decision", "events"},
    "production": {"runtime", "sources", "sinks", "http", "dialects"},
    "server": {"runtime", "client", "default", "flags", "sources", "sinks", "http"},
}
#: Room -> the only ones above that may import it.
ONLY_FOR = {
    "disk": {"sources", "runtime", "production", "cli"},
    "redis_wire": {"sources", "fleets"},
    "unleash_wire": {"sources", "sinks"},
    "changes": {"server", "cli"},
}
#: The mathematics of guards, of which a service's judge needs all.
MATHEMATICS = tuple(
    f"flagkit.production.{name}"
    for name in (
        "sequential",
        "clocks",
        "comparison",
        "breaker",
        "power",
        "tally",
        "pool",
        "judge",
        "metrics",
        "integrity",
        "interference",
    )
)
#: Room -> what it may import that is neither flagkit's nor Python's. Integrations may import what they integrate.
THIRD_PARTY = {
    "core": {"mmh3", "re2"},
    "dialects": {"mmh3", "re2"},
    "http": {"requests", "urllib3"},
    "redis_wire": {"redis"},
    "sources": {"cryptography"},
    "sinks": {"opentelemetry"},
    "runtime": {"cachetools"},
    "production": {"itsdangerous"},
    "server": {"starlette", "uvicorn"},
    "cli": {"click", "jsonschema", "starlette", "uvicorn"},
    "testing": {"pytest"},
    "pytest_plugin": {"pytest"},
}
IMPURE = {
    *("asyncio", "io", "logging", "multiprocessing", "os", "pathlib", "queue", "random", "secrets", "selectors"),
    *("signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "urllib"),
}
PURE = ("core", "dialects", *MATHEMATICS)
#: The parts of mmh3 that take bytes only: its ``hash`` aborts the interpreter on a str with a lone surrogate.
MMH3_OF_BYTES = {"mmh3_32_uintdigest"}


@cache
def modules() -> dict[str, Path]:
    """Module name -> file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("flagkit", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def imports(module: str) -> Iterator[str]:
    """Full names of what ``module`` imports: modules where they are ours, ``package.name`` otherwise."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively, at line {node.lineno}"
            yield from (_module_of(f"{node.module}.{alias.name}") for alias in node.names)


def _module_of(name: str) -> str:
    """Our module that ``name`` is or is in; ``name`` itself when it is not ours."""
    while name.startswith("flagkit.") and name not in modules():
        name = name.rpartition(".")[0]
    return name


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def floor(of: str) -> int:
    return next((index for index, rooms in enumerate(FLOORS) if of in rooms), len(FLOORS))


def is_ours(name: str) -> bool:
    return name.split(".")[0] == "flagkit"


def may_import(module: str, imported: str) -> bool:
    mine, other = room(module), room(imported)
    if mine == other:
        return True
    if mine == "server" and other == "production":
        return imported in MATHEMATICS
    if other in NEIGHBOURS.get(mine, ()):
        return True
    return floor(other) < floor(mine) and other not in NEVER.get(mine, ()) and mine in ONLY_FOR.get(other, {mine})


def is_in(module: str, places: tuple[str, ...]) -> bool:
    return room(module) in places or module in places


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module in modules()} <= set().union(*FLOORS)


def test_every_module_imports_only_what_its_floor_may() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module in modules()
        for imported in imports(module)
        if is_ours(imported) and not may_import(module, imported)
    ]
    assert wrong == []


def test_no_import_closes_a_circle() -> None:
    graph = {module: {name for name in imports(module) if is_ours(name)} - {module} for module in modules()}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_other_people_s_packages_stay_in_their_room() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module in modules()
        for imported in imports(module)
        if not is_ours(imported)
        and imported.split(".")[0] not in sys.stdlib_module_names
        and imported.split(".")[0] not in THIRD_PARTY.get(room(module), ())
        and room(module) != "integrations"
    ]
    assert wrong == []


def test_what_is_pure_has_no_clock_thread_logger_file_or_chance() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module in modules()
        if is_in(module, PURE)
        for imported in imports(module)
        if imported.split(".")[0] in IMPURE
    ]
    assert wrong == []


def test_what_is_pure_opens_nothing_and_asks_nobody_for_the_time() -> None:
    wrong = []
    for module in modules():
        for node in ast.walk(tree(module)) if is_in(module, PURE) else ():
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id in ("open", "print", "input", "breakpoint"):
                wrong.append(f"{module}:{called.lineno} {called.id}")
            if isinstance(called, ast.Attribute) and called.attr in ("now", "utcnow", "today"):
                wrong.append(f"{module}:{called.lineno} {called.attr}")
    assert wrong == []


def test_mmh3_is_only_asked_to_hash_bytes() -> None:
    used: set[str] = set()
    for module in modules():
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.ImportFrom) and node.module == "mmh3":
                used.update(alias.name for alias in node.names)
            elif isinstance(node, ast.Import):
                assert "mmh3" not in [alias.name for alias in node.names if alias.asname], module
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mmh3":
                used.add(node.attr)
    assert used == MMH3_OF_BYTES


def test_nothing_is_called_after_a_room_without_a_purpose() -> None:
    names = {part for module in modules() for part in module.split(".")}
    assert names.isdisjoint({"utils", "util", "helpers", "common", "misc", "base", "manager", "impl", "types"})


IMPORT = """
import atexit, json, logging, sys, threading
seen = []
sys.addaudithook(lambda event, args: seen.append((event, str(args[0]) if args else "")))
exits = atexit._ncallbacks()
import flagkit
flagkit.Config(), flagkit.Context("user-1"), flagkit.Flag, flagkit.enabled
print(json.dumps({
    "seen": seen,
    "threads": threading.active_count(),
    "exits": atexit._ncallbacks() - exits,
    "modules": sorted(sys.modules),
}))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, object]:
    """What went on in a fresh interpreter while it imported flagkit."""
    command = [sys.executable, "-B", "-W", "error", "-c", IMPORT]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_importing_starts_no_thread_and_leaves_nothing_for_the_exit(imported: dict[str, object]) -> None:
    assert (imported["threads"], imported["exits"]) == (1, 0)


def test_importing_opens_no_socket_process_or_file_but_its_own_code(imported: dict[str, object]) -> None:
    seen = imported["seen"]
    assert isinstance(seen, list)
    busy = ("socket.", "subprocess.", "os.system", "os.fork", "os.exec", "sqlite3.", "urllib.", "shutil.", "tempfile.")
    assert [event for event, _ in seen if event.startswith(busy)] == []
    assert [path for event, path in seen if event == "open" and not path.endswith((".py", ".pyc", ".so", ".pyd"))] == []


@pytest.mark.parametrize(
    "module",
    [
        *("requests", "urllib3", "uuid", "dataclasses", "asyncio", "ssl", "re2", "starlette", "click", "sqlite3"),
        *("openfeature", "opentelemetry", "google.protobuf", "itsdangerous", "prometheus_client", "sentry_sdk"),
        *("flagkit.fleets", "flagkit.production.trial", "flagkit.production.shadow", "flagkit.runtime.recording"),
    ],
)
def test_importing_does_not_load(module: str, imported: dict[str, object]) -> None:
    assert isinstance(imported["modules"], list)
    assert module not in imported["modules"]
