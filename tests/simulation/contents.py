"""What the service publishes, and what a client should answer who has taken this or that into use.

Every flag's value names the content it first stood in, so that an answer says by itself where it came from. The rules
of acceptance are written down here a second time, as simply as they can be said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any, NamedTuple

from flagkit.dialects.native_envelope import enveloped

Mark = tuple[str | None, int | None]
ENVIRONMENT = "production"
OFF = "off"


class Flag(NamedTuple):
    """``bad``: written in a way that no client can read, but for its being off."""

    value: str
    enabled: bool = True
    bad: bool = False
    max_age_s: int | None = None

    def text(self) -> dict[str, Any]:
        written: dict[str, Any] = {"variants": {"v": self.value, "o": OFF}, "off": "o", "default": "v"}
        if not self.enabled:
            written["enabled"] = False
        if self.max_age_s is not None:
            written["max_age_s"] = self.max_age_s
        if self.bad:
            written["rules"] = [{"when": [{"attribute": "a", "op": "resembles", "values": [1]}], "serve": "v"}]
        return written


class Content:
    """One set of definitions, as somebody wrote them, with the place they have in their epoch."""

    def __init__(self, epoch: str, number: int, flags: Mapping[str, Flag]) -> None:
        self.epoch = epoch
        self.number = number
        self.flags = dict(flags)
        written = {"schema": 1, "environment": ENVIRONMENT, "flags": {key: flag.text() for key, flag in flags.items()}}
        self.body, self.etag, _ = enveloped(written, epoch, number)

    @property
    def mark(self) -> Mark:
        return self.epoch, self.number

    def altered(self, **fields: Any) -> bytes:
        """The document with some fields saying something else."""
        return json.dumps({**json.loads(self.body), **fields}).encode()


class Author:
    """Writes one content after another."""

    def __init__(self, random: Random, flags: int) -> None:
        self._random = random
        self._epochs = 0
        self.keys = [f"flag-{index}" for index in range(flags + 4)]
        first = {key: Flag(f"{key} of the first") for key in self.keys[:flags]}
        first["flag-0"] = first["flag-0"]._replace(max_age_s=90)
        self.latest = Content(self._epoch(), 1, first)

    def revise(self) -> Content:
        """Some flags change; now and then one comes, goes, is switched, or is spoiled."""
        random, before = self._random, self.latest
        flags, number = dict(before.flags), before.number + 1
        for key in random.sample(list(flags), random.randint(1, 3)):
            value = f"{key} of {before.epoch}:{number}"
            flags[key] = flags[key]._replace(
                value=value, enabled=random.random() < 0.7, bad=random.random() < 0.15 and self._good(flags) > 11
            )
        if random.random() < 0.2:
            key = random.choice(self.keys[1:])
            if key not in flags:
                flags[key] = Flag(f"{key} of {before.epoch}:{number}")
            elif len(flags) > 11:
                del flags[key]
        self.latest = Content(before.epoch, number, flags)
        return self.latest

    def mend(self) -> Content:
        """A content without a bad flag."""
        before = self.latest
        flags = {
            key: flag._replace(bad=False, value=f"{key} of {before.epoch}:{before.number + 1}") if flag.bad else flag
            for key, flag in before.flags.items()
        }
        self.latest = Content(before.epoch, before.number + 1, flags)
        return self.latest

    def begin_anew(self) -> Content:
        """The service has lost its database: the same flags, and numbers from 1."""
        self.latest = Content(self._epoch(), 1, self.latest.flags)
        return self.latest

    def accident(self) -> Content:
        """Most flags are gone; what is left is off, or not."""
        left = self._random.sample(list(self.latest.flags), 3)
        flags = {key: self.latest.flags[key]._replace(bad=False, enabled=self._random.random() < 0.5) for key in left}
        return Content(self._epoch(), 1, flags)

    def ruin(self) -> Content:
        """Most flags are bad; the others are off, or not."""
        flags = dict(self.latest.flags)
        for key in self._random.sample(list(flags), 8):
            flags[key] = flags[key]._replace(bad=True, enabled=True)
        return Content(self._epoch(), 1, flags)

    def _good(self, flags: Mapping[str, Flag]) -> int:
        return sum(not flag.bad for flag in flags.values())

    def _epoch(self) -> str:
        self._epochs += 1
        return f"epoch-{self._epochs}"


def news(before: Content, after: Content) -> bytes:
    """What the service tells those who listen: a later one than they are, which can read what they cannot."""
    head: dict[str, Any] = {"epoch": after.epoch, "number": after.number}
    if before.epoch != after.epoch:
        return json.dumps({**head, "reload": True, "spread_ms": 200}).encode()
    changed = {key: flag.text() for key, flag in after.flags.items() if before.flags.get(key) != flag}
    removed = [key for key in before.flags if key not in after.flags]
    whole = {"base": before.number, "flag_count": len(after.flags), "etag": after.etag, "removed": removed}
    return json.dumps({**head, **whole, "flags": changed}, separators=(",", ":")).encode()


def announcement(content: Content) -> bytes:
    """What it says when nothing has changed."""
    return json.dumps({"epoch": content.epoch, "number": content.number}).encode()


class Answer(NamedTuple):
    """What a flag answers; ``max_age_s``: without confirmation for so long, it is off."""

    value: str
    max_age_s: int | None = None


class Belief:
    """What one process should have in use. ``mark``: whose content; None before the first."""

    def __init__(self) -> None:
        self.mark: Mark | None = None
        self.answers: dict[str, Answer] = {}
        #: Switched off by a document that was otherwise refused, until a good one says something else.
        self.doubtful: set[str] = set()

    def take(self, content: Content) -> None:
        """A document, or the change that leads to it, was taken into use."""
        answers: dict[str, Answer] = {}
        for key, flag in content.flags.items():
            if flag.bad and flag.enabled:
                # What was in use stays; which may be what a refused document switched off.
                if key in self.answers:
                    answers[key] = self.answers[key]
            else:
                answers[key] = Answer(flag.value if flag.enabled else OFF, flag.max_age_s)
        self.doubtful &= {key for key, flag in content.flags.items() if flag.bad}
        self.mark, self.answers = content.mark, answers

    def doubt(self, keys: Iterable[str]) -> None:
        self.doubtful |= set(keys)

    def allows(self, key: str, value: object, age_s: float) -> bool:
        """Whether ``value`` (None: the caller's default) may be the answer now."""
        answer = self.answers.get(key)
        if answer is None:
            return value is None
        if value is False:  # of a flag that never was good, all that is known is that it is off
            value = OFF
        if value == OFF and (key in self.doubtful or (answer.max_age_s is not None and age_s > answer.max_age_s)):
            return True
        return value == answer.value
