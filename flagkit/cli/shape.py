"""A document held against the JSON Schema: its findings in the parser's words. Called by ``validate``.

The parser has the first word and knows more; the schema is what editors use, so ``validate`` must not pass what it
would underline.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from itertools import chain
from typing import Any, Final

from flagkit.cli.places import outward
from flagkit.dialects.fields import At, one_of, path_text, said
from flagkit.errors import Problem
from flagkit.schema import load_schema

_TYPES: Final = {
    "object": "an object",
    "array": "an array",
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}
_BOUNDS: Final = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "over {}",
    "exclusiveMaximum": "under {}",
    "minLength": "{} or more characters",
    "maxLength": "at most {} characters",
    "minItems": "{} or more of them",
    "maxItems": "at most {} of them",
    "minProperties": "{} or more of them",
    "maxProperties": "at most {} of them",
}


def shape_problems(data: bytes, reported: Collection[Problem]) -> list[Problem]:
    """What the schema finds in ``data`` that ``reported`` says nothing of, in document order.

    Something is said of a path when a problem is there or inside it, or refuses the value it is directly in.
    Raises: nothing for any bytes.
    """
    from jsonschema import Draft202012Validator  # extra `cli`; 60 ms, and only this needs it

    try:
        document = json.loads(data)
        errors = list(Draft202012Validator(load_schema()).iter_errors(document))
    except (ValueError, RecursionError):  # the parser has said so
        return []
    said_of = {around for problem in reported for around in outward(problem.path)}
    refused = {problem.path for problem in reported if problem.refused}
    found: list[Problem] = []
    for error in errors:
        for at, message in _findings(error):
            path = path_text(at)
            around = path_text(at[0]) if at and at[0] else None
            if path not in said_of and around not in refused:
                said_of.add(path)
                found.append(Problem(path, message, refused=False))
    return found


def _findings(error: Any) -> Iterator[tuple[At, str]]:
    """A validation error as the places and messages it is about."""
    at: At = None
    for step in error.absolute_path:
        at = (at, step)
    rule, value = error.validator, error.instance
    if "propertyNames" in error.absolute_schema_path:
        yield (at, str(value)), f"got {said(value)}; expected {error.schema.get('errorMessage', 'another name')}"
    elif rule == "additionalProperties":
        known = error.schema["properties"]
        yield from (
            ((at, key), f"unknown field; known are {', '.join(sorted(known))}") for key in value if key not in known
        )
    elif rule in ("required", "dependentRequired"):
        wanted = error.validator_value if rule == "required" else chain.from_iterable(error.validator_value.values())
        yield from (((at, name), "missing") for name in wanted if name not in value)
    elif rule is None:
        yield at, "does not go with the other fields here"
    else:
        yield at, f"got {said(value)}; expected {_expected(rule, error.validator_value, error.schema)}"


def _expected(rule: str, wanted: Any, schema: dict[str, Any]) -> str:
    if rule == "type" and wanted == "object":
        return _TYPES["object"]
    if "errorMessage" in schema:
        return str(schema["errorMessage"])
    if rule == "type":
        return " or ".join(_TYPES[name] for name in ([wanted] if isinstance(wanted, str) else wanted))
    if rule == "enum":
        return one_of(wanted)
    return _BOUNDS[rule].format(f"{wanted:,}") if rule in _BOUNDS else said(wanted)
