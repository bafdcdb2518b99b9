"""``Finding``: one line of the doctor's report. Made by every examination, printed by the command."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """How it stands: ``WARNING`` works now and may not always; ``PROBLEM`` does not work; ``SKIPPED``: not seen."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


class Finding(NamedTuple):
    """What was looked at, how it stands, what was found, and what to do about it. No secret is ever in it."""

    check: str
    verdict: Verdict
    found: str
    fix: str = ""

    @property
    def is_ok(self) -> bool:
        return self.verdict is Verdict.OK


def ok(check: str, found: str) -> Finding:
    return Finding(check, Verdict.OK, found)


def warning(check: str, found: str, fix: str) -> Finding:
    return Finding(check, Verdict.WARNING, found, fix)


def problem(check: str, found: str, fix: str) -> Finding:
    return Finding(check, Verdict.PROBLEM, found, fix)


def skipped(check: str, found: str, fix: str) -> Finding:
    """``fix``: how to have it looked at."""
    return Finding(check, Verdict.SKIPPED, found, fix)
