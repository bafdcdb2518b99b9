"""What a process posts to ``/v1/guards`` must be: bounded, strict JSON, all of it good before any of it counts.

Pure: bytes in, values out. What was counted is not looked into here, and neither is what the definitions say.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final, NamedTuple

from flagkit.fleets import Report, Trial
from flagkit.server.intake import Refused, decoded

MAX_REPORTS_BYTES: Final = 1024 * 1024
_MOST_REPORTS: Final = 1000
_MAX_COUNTED: Final = 64 * 1024
_MAX_POLICY: Final = 4096
_MAX_TEXT: Final = 256
_MOST: Final = 2**53
_process_id = re.compile(r"[0-9a-f]{32}").fullmatch


class Reports(NamedTuple):
    """As ``fleets.Fleet.exchange`` was given them."""

    process: str
    sequence: int
    reports: list[Report]


def read_reports(wire: bytes, encoding: str) -> Reports:
    """The reports in a request's body. ``encoding`` is its Content-Encoding, "" for none.

    Raises: Refused with 400 (malformed), 413 (too large) or 415 (an encoding not taken).
    """
    try:
        asked = json.loads(decoded(wire, encoding))
        process, sequence, reports = asked["process"], asked["sequence"], asked["reports"]
    except (ValueError, TypeError, LookupError, RecursionError):
        raise Refused(400, "expected an object with process, sequence and reports") from None
    if not isinstance(process, str) or not _process_id(process):
        raise Refused(400, "process: expected 32 hex digits")
    if not _whole(sequence):
        raise Refused(400, "sequence: expected a whole number, 0 or more")
    if not isinstance(reports, list) or len(reports) > _MOST_REPORTS:
        raise Refused(400, f"reports: expected a list of at most {_MOST_REPORTS}")
    return Reports(process, sequence, [_report(report, index) for index, report in enumerate(reports)])


def _report(report: Any, index: int) -> Report:
    try:
        trial = Trial(report["environment"], report["flag"], report["revision"], report["candidate"])
        policy, counted = report["policy"], base64.b64decode(report["counted"], validate=True)
    except (ValueError, TypeError, LookupError):
        raise Refused(
            400, f"reports[{index}]: expected environment, flag, revision, candidate, policy, counted"
        ) from None
    texts = (trial.environment, trial.flag, trial.candidate)
    if not all(isinstance(text, str) and len(text) <= _MAX_TEXT for text in texts) or not isinstance(policy, str):
        raise Refused(400, f"reports[{index}]: expected texts of at most {_MAX_TEXT} characters")
    if not _whole(trial.revision):
        raise Refused(400, f"reports[{index}].revision: expected a whole number, 0 or more")
    if len(counted) > _MAX_COUNTED or len(policy) > _MAX_POLICY:
        raise Refused(413, f"reports[{index}]: too large")
    return Report(trial, policy, counted)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST
