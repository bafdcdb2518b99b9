"""What options take: instants, attributes and overrides, from the text on a command line. Used by eval and diff."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import click

from flagkit.cli.documents import unknown
from flagkit.core.dates import DATE_FORM, parse_date_ms
from flagkit.core.model import Definitions


def instant(text: str) -> int:
    """A date as milliseconds since 1970. Raises: BadParameter."""
    found = parse_date_ms(text)
    if found is None:
        raise click.BadParameter(f"got {text!r}; expected {DATE_FORM}")
    return found


def attributes(pairs: Iterable[str], whole: str | None) -> dict[str, Any]:
    """Attributes from ``k=v`` pairs, on top of a whole JSON object. Raises: UsageError."""
    found: Any = {}
    if whole is not None:
        try:
            found = strict_json(whole)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise click.UsageError("--attrs: expected a JSON object")
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise click.UsageError(f"--attr: got {pair!r}; expected name=value")
        try:
            found[name] = strict_json(text)
        except ValueError:
            found[name] = text
    return dict(found)


def overrides(pairs: Iterable[str], definitions: Definitions) -> Mapping[str, str | bool]:
    """Forced answers from ``flag=variant`` pairs; ``true`` and ``false`` mean on and off. Raises: ClickException."""
    forced: dict[str, str | bool] = {}
    for pair in pairs:
        key, _, wanted = pair.partition("=")
        flag = definitions.flags.get(key)
        if flag is None:
            raise unknown("flag", key, definitions.flags)
        if wanted in flag.variants:
            forced[key] = wanted
        elif wanted in ("true", "false"):
            forced[key] = wanted == "true"
        else:
            raise unknown(f"variant of {key}", wanted, [*flag.variants, "true", "false"])
    return forced


def strict_json(text: str | bytes) -> Any:
    """``text`` decoded; NaN and infinities, which JSON has not, are refused. Raises: ValueError."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
