"""Orders through the service: read from a request, carried out on the file it serves, served before the answer.

One at a time, under the lock that the command line takes too. A flag is switched off whatever the file is like: if it
cannot be changed, then in what is served alone. It knows no HTTP beyond the status of a refusal.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from flagkit.changes import Author, Change, Kill, Logbook, LogbookError, Order, OrderError, opened, order_from, undoing
from flagkit.changes.orders import text_of
from flagkit.clock import Clock
from flagkit.dialects.edits import Edit, EditError
from flagkit.errors import FlagkitError, shown
from flagkit.server.chronicle import Chronicle
from flagkit.server.definitions import DefinitionsFile
from flagkit.server.intake import Refused

_log = logging.getLogger("flagkit")

MAX_ORDER_BYTES: Final = 16 * 1024
_MAX_NAME: Final = 128
_MAX_REASON: Final = 1000
_request_id = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch


class Asked(NamedTuple):
    """What a request asks for, and who asks."""

    order: Order
    author: Author


class Done(NamedTuple):
    """What came of an order. ``change``: its number in the history; None when it is not in it."""

    flag: str
    changed: bool
    change: int | None = None
    summary: str = ""
    note: str = ""
    undo: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_order(wire: bytes, request: str) -> Asked:
    """The order in a request's body, under the request id ``request``, which may be empty.

    Raises: Refused with 400 (malformed) or 422 (no order, and why).
    """
    if request and not _request_id(request):
        raise Refused(400, "Idempotency-Key: expected 1 to 64 letters, digits, dots, underscores or hyphens")
    try:
        body = json.loads(
            wire.decode(), parse_float=Decimal, parse_constant=_not_json, object_pairs_hook=_without_doubles
        )
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON in UTF-8") from None
    if not isinstance(body, dict):
        raise Refused(422, "expected an object with kind, flag, by and reason")
    by = _said(body, "by", "who makes the change", _MAX_NAME)
    reason = _said(body, "reason", "why", _MAX_REASON)
    try:
        order = order_from(body)
    except OrderError as error:
        raise Refused(422, str(error)) from None
    return Asked(order, Author(by, reason, order.kind, request))


class Operations:
    """Carries out orders on the file at ``path``, which is what ``definitions`` serves. Called by one thread."""

    def __init__(self, path: Path, definitions: DefinitionsFile, chronicle: Chronicle, clock: Clock) -> None:
        self._path = path
        self._definitions = definitions
        self._chronicle = chronicle
        self._clock = clock

    def carry_out(self, asked: Asked) -> dict[str, Any]:
        """The answer to ``POST /v1/changes``, once what it says is served and on disk.

        Raises: EditError when the definitions do not allow it; LogbookError when the file cannot be changed;
            Refused when the request id has been used for something else.
        """
        order, author = asked
        try:
            done = self._in_file(order, author)
        except (EditError, LogbookError) as error:
            done = self._beside_file(order, author, error)
        served = self._definitions.served
        if done.changed:
            words = (shown(author.by), author.command, done.flag, done.summary, shown(author.reason))
            _log.info("changed by %s: %s %s, %s: %s", *words)
        warnings = done.warnings or self._doubts()
        return {**done._asdict(), "epoch": served.epoch, "number": served.number, "warnings": warnings}

    def _in_file(self, order: Order, author: Author) -> Done:
        with opened(self._path, self._clock) as book:
            made = book.made(author.request)
            if made is not None:
                return _again(made, order, book)
            edit = order.edit(book.text, book.history)
            if not edit.is_change:
                self._definitions.take()
                return Done(edit.flag, changed=self._off_at_least(order, author), summary=edit.summary)
            self._demand_that_it_is_served(edit)
            change = book.enter(edit, author)
            self._definitions.take()
        self._chronicle.catch_up(self._definitions.served.number)
        self._off_at_least(order, author)
        return Done(edit.flag, True, change.number, edit.summary, edit.note, undoing(change, book.history))

    def _beside_file(self, order: Order, author: Author, error: FlagkitError) -> Done:
        """A flag switched off in what is served alone. Raises: ``error`` when the order is another, or no flag's."""
        self._definitions.take()
        if not isinstance(order, Kill) or order.flag not in self._definitions.served.definitions.flags:
            raise error
        changed = self._off_at_least(order, author)
        stays = f"the file is not changed ({error}): switch the flag off in it too, or the next edit of it decides"
        return Done(order.flag, changed, summary="enabled -> disabled", warnings=(stays,))

    def _off_at_least(self, order: Order, author: Author) -> bool:
        """Whether a flag to be killed was still served, and no longer is."""
        if not isinstance(order, Kill):
            return False
        with self._chronicle.ordered(order.flag, author):
            return bool(self._definitions.switch_off({order.flag}))

    def _demand_that_it_is_served(self, edit: Edit) -> None:
        bad = [problem for problem in edit.problems if problem.refused]
        if bad and json.loads(edit.after).get("enabled") is not False:
            raise EditError(
                f"not changed, because nobody would get it: the file has mistakes ({len(bad)}) and is not served "
                f"before they are put right; the first is {bad[0]}"
            )

    def _doubts(self) -> Sequence[str]:
        if self._definitions.ok:
            return ()
        problems = self._definitions.problems
        return (f"the file is not served as it is, only that flags are off in it: {'; '.join(map(str, problems[:3]))}",)


def _again(made: Change, order: Order, book: Logbook) -> Done:
    """The answer to a request that came before. Raises: Refused when it asked for something else then."""
    if (made.command, made.flag) != (order.kind, order.flag or made.flag):
        raise Refused(422, "Idempotency-Key: came with another change before; expected a new one")
    return Done(made.flag, True, made.number, made.summary, undo=undoing(made, book.history))


def _said(body: dict[str, Any], name: str, what: str, most: int) -> str:
    try:
        return text_of(body.pop(name, None), most)
    except ValueError:
        raise Refused(422, f"{name}: say {what}, in 1 to {most:,} characters") from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _not_json(constant: str) -> NoReturn:
    raise ValueError(constant)
