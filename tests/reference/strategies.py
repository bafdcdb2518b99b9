"""Random valid documents and random, often hostile, contexts: ``random_case`` from any ``random.Random``.

Everything is drawn from small pools so that conditions match, miss and fail to apply about equally often. ``cases`` is
the same generator driven by hypothesis, which shrinks what it finds. Property tests call these.
The pools are in ``pools``.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.reference.pools import (
    ATTRIBUTES,
    FLAGS,
    FOLDABLE,
    HOSTILE,
    NOT_UNITS,
    NOW_MS,
    OPERATORS,
    PATHS,
    PERCENTS,
    SEGMENTS,
    SOME_UNITS,
    UNITS,
)

Json = dict[str, Any]


class Case(NamedTuple):
    """One document and some questions to ask of it: (context, forced answers) pairs."""

    document: Json
    questions: tuple[tuple[Json, dict[str, Any] | None], ...]
    now_ms: int


def cases(questions: int = 4) -> st.SearchStrategy[Case]:
    """``random_case`` with hypothesis making the choices, so that a failure shrinks."""
    return st.randoms(use_true_random=False).map(lambda rng: random_case(rng, questions))


def random_case(rng: Random, questions: int = 4) -> Case:
    """A valid document and contexts to ask it about; the same for the same state of ``rng``."""
    document = random_document(rng)
    return Case(
        document,
        tuple((random_context(rng), _forced(rng) if _sometimes(rng, 0.1) else None) for _ in range(questions)),
        NOW_MS + rng.choice((0, 1, 2, -1, -86_400_000, 30 * 86_400_000)),
    )


def random_context(rng: Random) -> Json:
    """A context as the interpreter takes it; hostile in one value out of eight."""
    attributes: Json = {}
    for name, honest in ATTRIBUTES.items():
        if not _sometimes(rng, 0.25):
            attributes[name] = _value(rng, honest)
    if not _sometimes(rng, 0.3):
        geo = rng.choice(({"code": "SE"}, {"code": 18}, {}, None, "SE", MappingProxyType({"code": "se"})))
        attributes["address"] = rng.choice(({"city": "no", "geo": geo}, {"geo": geo}, "SE", ["SE"]))
    if _sometimes(rng, 0.1):
        attributes["unit"] = "user-3"  # the context's own unit counts, never this one
    context: Json = {"attributes": attributes}
    if not _sometimes(rng, 0.08):
        context["unit"] = rng.choice(NOT_UNITS if _sometimes(rng, 0.06) else UNITS)
    if _sometimes(rng, 0.5):
        context["enrolments"] = {flag: rng.choice((True, True, False, 1, None)) for flag in _some(rng, FLAGS)}
    return context


def _value(rng: Random, honest: tuple[Any, ...]) -> Any:
    if _sometimes(rng, 0.1):
        return rng.choice(HOSTILE)
    if _sometimes(rng, 0.08):
        return rng.choice(ATTRIBUTES[rng.choice(tuple(ATTRIBUTES))])
    if _sometimes(rng, 0.15):
        pool = (*honest, *honest, None, float("nan"), ["SE"])
        return rng.choice((list, tuple))(rng.choice(pool) for _ in range(rng.randrange(4)))
    return rng.choice(honest)


def _forced(rng: Random) -> dict[str, Any]:
    return {flag: rng.choice((True, False, "on", "off", "b", "no such variant")) for flag in _some(rng, FLAGS)}


def _sometimes(rng: Random, chance: float) -> bool:
    return rng.random() < chance


def _some(rng: Random, pool: tuple[Any, ...], most: int = 3) -> list[Any]:
    """At least one of ``pool``, none twice."""
    return rng.sample(pool, rng.randint(1, min(most, len(pool))))


def edited(document: Json, rng: Random) -> Json:
    """The document after a change somewhere: flags, segments, layers and holdouts of others under the same names."""
    other = random_document(rng)
    flags = document["flags"] | {name: flag for name, flag in other["flags"].items() if _sometimes(rng, 0.3)}
    if len(flags) > 1 and _sometimes(rng, 0.2):
        del flags[rng.choice(list(flags))]
    new = document | {"flags": flags}
    segments = document.get("segments", {}) | {
        name: segment for name, segment in other.get("segments", {}).items() if _sometimes(rng, 0.3)
    }
    if segments:
        new["segments"] = segments
    if _sometimes(rng, 0.5):
        new["enrolments"] = _enrolments(rng)
    for section in ("holdouts", "layers"):
        if _sometimes(rng, 0.3):
            new.pop(section, None)
            new |= {section: other[section]} if section in other else {}
        new[section] = _of_known_flags(new.get(section, {}), flags)
    return new


def _enrolments(rng: Random) -> Json:
    return {flag: _some(rng, SOME_UNITS) for flag in _some(rng, FLAGS)}


def _of_known_flags(section: Json, flags: Json) -> Json:
    """Layers or holdouts without the flags that are gone."""
    kept: Json = {}
    for name, part in section.items():
        if "slots" in part:
            kept[name] = part | {"slots": {flag: slot for flag, slot in part["slots"].items() if flag in flags}}
        else:
            kept[name] = part | {"flags": [flag for flag in part["flags"] if flag == "*" or flag in flags]}
    return {name: part for name, part in kept.items() if part.get("slots") or part.get("flags")}


def random_document(rng: Random) -> Json:
    """A document that is valid but, rarely, for a cycle or a segment nobody defined."""
    document: Json = {"schema": 1, "flags": {}}
    if not _sometimes(rng, 0.2):
        # A segment may name those after it, so they nest without a cycle (but for the rare one made on purpose).
        document["segments"] = {
            name: _segment(rng, SEGMENTS[place + 1 :] or (SEGMENTS[:1] if _sometimes(rng, 0.02) else ()))
            for place, name in enumerate(SEGMENTS)
        }
    segments = SEGMENTS if "segments" in document or _sometimes(rng, 0.02) else ()
    flags = FLAGS[: rng.randint(1, len(FLAGS))]
    for place, flag in enumerate(flags):
        document["flags"][flag] = _flag(rng, flags[place + 1 :] or ("ghost",), segments)
    if _sometimes(rng, 0.02):
        document["flags"][flags[-1]]["prerequisites"] = [{"flag": flags[0], "variants": ["on"]}]
    if _sometimes(rng, 0.35):
        document["layers"] = _layers(rng, flags)
    if _sometimes(rng, 0.35):
        document["holdouts"] = {name: _holdout(rng, flags) for name in _some(rng, ("q3", "q4"))}
    if _sometimes(rng, 0.4):
        document["enrolments"] = _enrolments(rng)
    return document


def _flag(rng: Random, parents: tuple[str, ...], segments: tuple[str, ...]) -> Json:
    flag: Json = {}
    names = ["on", "off"]
    if _sometimes(rng, 0.5):
        names = rng.choice((["on", "off", "b"], ["off", "a", "b"], ["b", "on"], ["red", "off", "on"]))
        flag["variants"] = {name: rng.choice((name, 1, 2.5, True, None, {"k": [name]}, [])) for name in names}
        flag["off"] = "off" if "off" in names else names[-1]
    if _sometimes(rng, 0.4):
        flag["default"] = rng.choice(names)
    if _sometimes(rng, 0.1):
        flag["enabled"] = rng.choice((False, True))
    if _sometimes(rng, 0.3):
        flag["kind"] = rng.choice(("release", "experiment", "ops", "permission"))
    if _sometimes(rng, 0.2):
        flag["salt"] = rng.choice(("alpha", "s_1.x"))
    if _sometimes(rng, 0.25):
        flag["prerequisites"] = [
            {"flag": name, "variants": _some(rng, ("on", "off"))} for name in _some(rng, parents, 2)
        ]
    if _sometimes(rng, 0.3):
        flag["exclude"] = [_condition(rng, segments, 1) for _ in range(rng.randint(0, 2))]
    if _sometimes(rng, 0.3):
        flag["targets"] = {name: [] for name in _some(rng, tuple(names))}
        for unit in _some(rng, SOME_UNITS):
            flag["targets"][rng.choice(list(flag["targets"]))].append(unit)
    if not _sometimes(rng, 0.15):
        flag["rules"] = [_rule(rng, names, segments) for _ in range(rng.randint(1, 4))]
        for place in rng.sample(range(len(flag["rules"])), rng.randrange(len(flag["rules"]))):
            flag["rules"][place]["name"] = f"named {place}"
    return flag


def _rule(rng: Random, names: list[str], segments: tuple[str, ...]) -> Json:
    rule: Json = {}
    if not _sometimes(rng, 0.35):
        rule["when"] = [_condition(rng, segments, 2) for _ in range(rng.randint(0, 2))]
        if _sometimes(rng, 0.2):
            rule["when"].insert(0, {"enrolled": True} | ({"not": False} if _sometimes(rng, 0.1) else {}))
    if _sometimes(rng, 0.65):
        rule["rollout"] = {"percent": rng.choice(PERCENTS)}
        if _sometimes(rng, 0.25):
            dates = sorted(_some(rng, (("2026-11-01T00:00:00Z"), ("2026-12-01T12:00:00.001Z"), ("2026-12-15"))))
            dates = [date if "T" in date else f"{date}T00:00:00+00:00" for date in dates]
            rule["rollout"] = {"steps": [{"from": date, "percent": rng.choice(PERCENTS)} for date in dates]}
        if _sometimes(rng, 0.3):
            rule["rollout"]["by"] = rng.choice(
                ("organization", "unit", ["unit"], "country", ["address", "city"], "nowhere")
            )
    if _sometimes(rng, 0.35):
        split = [{"variant": name, "weight": rng.choice((0, 1, 50, 1_000_000))} for name in names]
        split[rng.randrange(len(split))]["weight"] = 3
        return rule | {"split": split}
    return rule | {"serve": rng.choice(names)}


def _condition(rng: Random, segments: tuple[str, ...], depth: int) -> Json:
    inner: Callable[[], Json] = lambda: _condition(rng, segments, depth - 1)  # noqa: E731
    kind = rng.random()
    condition: Json
    if kind < 0.12 and segments:
        condition = {"segment": rng.choice(segments) if _sometimes(rng, 0.7) else _some(rng, segments)}
    elif kind < 0.3 and depth:
        name = rng.choice(("any", "all", "not"))
        if name == "not":
            return {"not": inner()}
        condition = {name: [inner() for _ in range(rng.randint(1, 3))]}
    elif kind < 0.35:
        return {"enrolled": True, "not": True}
    elif kind < 0.4:
        condition = {"time": _window(rng)}
    else:
        condition = _test(rng)
    if _sometimes(rng, 0.2):
        condition["not"] = _sometimes(rng, 0.9)
    return condition


def _window(rng: Random) -> Json:
    window: Json = {}
    if _sometimes(rng, 0.6):
        window["from"] = rng.choice(("2026-12-01T12:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T14:00:00.001+02:00"))
    if not window or _sometimes(rng, 0.5):
        window["until"] = rng.choice(("2026-12-01T12:00:00.002Z", "2026-12-20T00:00:00Z"))
    return window


def _test(rng: Random) -> Json:
    op = rng.choice(tuple(OPERATORS))
    attributes, values = OPERATORS[op]
    condition: Json = {"attribute": rng.choice(attributes), "op": op}
    if _sometimes(rng, 0.12):
        condition["attribute"] = rng.choice((*PATHS, *ATTRIBUTES, "nowhere"))
    if op == "between":
        condition["values"] = sorted(rng.choice(values) for _ in range(2))
    elif op in ("greater", "greater_or_equal", "less", "less_or_equal"):
        condition["values"] = [rng.choice(values)]
    elif op != "exists":
        condition["values"] = _some(rng, values)
    if op in FOLDABLE and _sometimes(rng, 0.4):
        condition["ignore_case"] = _sometimes(rng, 0.8)
    return condition


def _segment(rng: Random, inner: tuple[str, ...]) -> Json:
    parts: Json = {
        "units": _some(rng, SOME_UNITS),
        "any": [_condition(rng, inner, 1) for _ in range(rng.randint(1, 2))],
        "all": [_condition(rng, inner, 1) for _ in range(rng.randint(1, 2))],
    }
    segment: Json = _without_enrolments({name: parts[name] for name in _some(rng, tuple(parts))})
    return segment


def _without_enrolments(part: Any) -> Any:
    """A segment belongs to no flag, so nobody is enrolled in it: such conditions become others."""
    if isinstance(part, list):
        return [_without_enrolments(item) for item in part]
    if isinstance(part, dict):
        if "enrolled" in part:
            return {"attribute": "active", "op": "exists"}
        return {name: _without_enrolments(item) for name, item in part.items()}
    return part


def _layers(rng: Random, flags: tuple[str, ...]) -> Json:
    slots: Json = {}
    edges = rng.choice(((0, 20, 40, 60, 100), (0, 50, 100), (0, 100), (10, 33.333, 66.667, 99.5)))
    for flag, start, end in zip(rng.sample(flags, len(flags)), edges, edges[1:], strict=False):
        slots[flag] = [start, end]
    layer: Json = {"slots": slots}
    if _sometimes(rng, 0.3):
        layer["by"] = rng.choice(("organization", "unit"))
    if _sometimes(rng, 0.3):
        layer["salt"] = "layer-salt"
    return {"checkout": layer}


def _holdout(rng: Random, flags: tuple[str, ...]) -> Json:
    holdout: Json = {"percent": rng.choice(PERCENTS), "flags": ["*"] if _sometimes(rng, 0.5) else _some(rng, flags)}
    return holdout | ({"salt": "holdout-salt"} if _sometimes(rng, 0.3) else {})
