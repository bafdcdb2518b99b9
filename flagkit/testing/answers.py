"""What the answers mean that a test gives for flags: definitions in which each is what everybody gets.

Pure. ``Known`` is what is known of flags from elsewhere: their variants, so that a test that misspells one fails, and
their values. ``Flags`` and ``make_client`` call it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from flagkit.arguments import UNSET
from flagkit.core.model import Definitions, FlagDefinition
from flagkit.core.snapshot import forced_variant
from flagkit.dialects import native
from flagkit.errors import ConfigError, DefinitionsError

#: True: on. False: off. A string: that variant. A mapping: the flag's native definition.
Answer: TypeAlias = "bool | str | Mapping[str, Any]"

_PLAIN: Final[Mapping[str, Any]] = {"on": True, "off": False}
#: What exposures in tests call the version of a flag: no hash of something that nobody wrote.
_VERSION: Final = "test"


class Known(NamedTuple):
    """Flags that are defined somewhere, and the segments of that document, as JSON."""

    flags: Mapping[str, FlagDefinition] = {}
    segments: Mapping[str, Any] = {}


class Setting(NamedTuple):
    """What a test said of one flag. value: what the variant's value is, if it said so."""

    answer: Answer
    value: Any = UNSET


@lru_cache(maxsize=4)  # a test session reads one document, once a test
def known_from(document: bytes) -> Known:
    """What a native document says there is. Raises: ConfigError when it is refused, or a flag of it is."""
    try:
        definitions, problems = native.parse(document)
    except DefinitionsError as error:
        raise ConfigError("definitions", document, f"a native definitions document: {error}") from None
    refused = [problem for problem in problems if problem.refused]
    if refused:
        raise ConfigError("definitions", document, f"a document without mistakes: {refused[0]}")
    return Known(definitions.flags, json.loads(document).get("segments", {}))


def checked(flag: object, setting: Setting) -> Setting:
    """``setting`` as JSON has it, if it is one as far as can be said without knowing the flag. Raises: ConfigError."""
    if not isinstance(flag, str) or not flag:
        raise ConfigError("flag", flag, "the key of a flag")
    answer, value = setting
    if not isinstance(answer, (bool, str, Mapping)) or answer == "":
        raise ConfigError(_named(flag), answer, "True, False, the name of a variant, or a flag's definition")
    if isinstance(answer, Mapping):
        if value is not UNSET:
            raise ConfigError("value", value, "no value beside a definition, which says it")
        return Setting(_json(_named(flag), answer, "a definition with a JSON form"))
    return setting if value is UNSET else Setting(answer, _json("value", value, "a value with a JSON form"))


def definitions_of(settings: Mapping[str, Setting], known: Known) -> Definitions:
    """Definitions in which the flags set are as they are set, and the other known ones serve their off variant.

    Raises: ConfigError naming a flag, what was said of it, and what would be right.
    """
    flags = {key: _serving(flag, flag.off) for key, flag in known.flags.items()}
    written: dict[str, Mapping[str, Any]] = {}
    for key, (answer, value) in settings.items():
        if isinstance(answer, Mapping):
            written[key] = answer
        else:
            flags[key] = _set(key, answer, value, known.flags.get(key))
    if not written:
        return Definitions(flags)
    parsed = _parsed(written, flags, known.segments)
    return parsed._replace(flags={**flags, **{key: parsed.flags[key] for key in written}})


def document_of(settings: Mapping[str, Setting], segments: Mapping[str, Any]) -> dict[str, Any]:
    """The same as a native document. Raises: ConfigError as ``definitions_of``."""
    definitions = definitions_of(settings, Known(segments=segments))
    flags = {
        key: answer if isinstance(answer, Mapping) else _written(definitions.flags[key])
        for key, (answer, _) in settings.items()
    }
    return {"schema": 1, "segments": segments, "flags": flags}


def _set(key: str, answer: bool | str, value: Any, known: FlagDefinition | None) -> FlagDefinition:
    """The flag that gives everybody that answer."""
    flag = known
    if flag is None:
        variants = _PLAIN if isinstance(answer, bool) or answer in _PLAIN else {answer: answer, "off": False}
        flag = FlagDefinition(key, variants, "off", "off")
    variant = forced_variant(flag, answer)
    if variant is None:
        raise ConfigError(_named(key), answer, "one of its variants: " + ", ".join(map(repr, flag.variants)))
    if value is not UNSET:
        flag = flag._replace(variants={**flag.variants, variant: value})
    return _serving(flag, variant)


def _serving(flag: FlagDefinition, variant: str) -> FlagDefinition:
    """The flag without anything to decide by; what else is said of it, such as its owner, stays."""
    return flag._replace(
        default=variant,
        enabled=variant != flag.off,  # off is switched off: that ends a pinned answer of a scope at once
        version=_VERSION,
        salt=flag.key,
        text="",
        prerequisites=(),
        exclude=(),
        targets={},
        rules=(),
        segments=frozenset(),
        guard=None,
        tripped={},
        max_age_s=None,
        logic=None,
        remarks=(),
    )


def _parsed(
    written: Mapping[str, Mapping[str, Any]], others: Mapping[str, FlagDefinition], segments: Mapping[str, Any]
) -> Definitions:
    """The flags ``written``, which may depend on ``others``."""
    parents = {key: _written(flag) for key, flag in others.items()}
    document = {"schema": 1, "segments": segments, "flags": {**parents, **written}}
    try:
        definitions, problems = native.parse(json.dumps(document).encode())
    except DefinitionsError as error:
        raise ConfigError(", ".join(map(_named, written)), written, f"definitions that can be used: {error}") from None
    for problem in problems:
        if problem.flag is not None and problem.flag in written:
            raise ConfigError(_named(problem.flag), written[problem.flag], f"a definition without mistakes: {problem}")
    return definitions


def _written(flag: FlagDefinition) -> dict[str, Any]:
    return {"variants": dict(flag.variants), "off": flag.off, "default": flag.default, "enabled": flag.enabled}


def _json(field: str, value: Any, expected: str) -> Any:
    """``value`` as it is after a way through JSON: nobody changes it later. Raises: ConfigError."""
    try:
        return json.loads(json.dumps(value, allow_nan=False, default=dict))  # a mapping that is no dict becomes one
    except (TypeError, ValueError, RecursionError):
        raise ConfigError(field, value, expected) from None


def _named(flag: str) -> str:
    return f"flags[{flag!r}]"
