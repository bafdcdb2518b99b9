"""What an operator may order: kill, ramp, set, reset, revert, as values, and the one form in which they are sent.

Pure. An order turns the text of a document and its history into an edit (``dialects.edits``); it opens nothing. The
command line makes orders from what was typed, the service from what was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from decimal import Decimal
from typing import Any, ClassVar, Final, TypeAlias

from flagkit.changes.history import Change, History
from flagkit.dialects import edits
from flagkit.dialects.edits import Edit, EditError
from flagkit.errors import FlagkitError, shown

_MAX_TEXT: Final = 1024
_MAX_NUMBER: Final = 2**53


class OrderError(FlagkitError, ValueError):
    """What was asked for is no order, and why."""


@dataclass(frozen=True)
class Kill:
    """A flag off for everyone."""

    flag: str
    kind: ClassVar[str] = "kill"

    def edit(self, text: str, history: History) -> Edit:  # noqa: ARG002 - as every order
        """Raises: EditError."""
        return edits.kill(text, self.flag)


@dataclass(frozen=True)
class Ramp:
    """Another percentage for a rollout."""

    flag: str
    percent: Decimal
    rule: str | None = None
    replace_steps: bool = False
    kind: ClassVar[str] = "ramp"

    def edit(self, text: str, history: History) -> Edit:  # noqa: ARG002
        """Raises: EditError."""
        return edits.ramp(text, self.flag, self.percent, rule=self.rule, replace_steps=self.replace_steps)


@dataclass(frozen=True)
class Serve:
    """One variant for everyone."""

    flag: str
    variant: str
    kind: ClassVar[str] = "set"

    def edit(self, text: str, history: History) -> Edit:  # noqa: ARG002
        """Raises: EditError."""
        return edits.serve_all(text, self.flag, self.variant)


@dataclass(frozen=True)
class Reset:
    """A new try for what a guard has rolled back."""

    flag: str
    in_code: bool = False
    kind: ClassVar[str] = "reset"

    def edit(self, text: str, history: History) -> Edit:  # noqa: ARG002
        """Raises: EditError."""
        return edits.new_try(text, self.flag, in_code=self.in_code)


@dataclass(frozen=True)
class Revert:
    """The last change of a flag, or of the file, undone; or the flag as it was after change ``to``."""

    flag: str | None = None
    to: int | None = None
    force: bool = False
    kind: ClassVar[str] = "revert"

    def edit(self, text: str, history: History) -> Edit:
        """Raises: EditError saying why it is not to be undone just so."""
        own = _changes_of(history, self.flag, self.to)
        last = own[-1]
        if not self.force:
            if not edits.same(edits.written(text, last.flag), last.after):
                raise EditError(
                    f"{last.flag} was edited by hand after number {last.number}; to lose that edit, say --force"
                )
            if self.to is None and last.command == "revert":
                raise EditError(
                    f"{last.flag} was reverted already, by {last.by} at {last.time} (number {last.number}); "
                    "to go further back say --to N, to undo the revert --force"
                )
        if self.to is None:
            return edits.put_back(text, last.flag, last.before, f"undoes number {last.number} ({last.summary})")
        earlier = [change for change in own if change.number <= self.to]
        if earlier:
            return edits.put_back(text, last.flag, earlier[-1].after, f"as it was after number {earlier[-1].number}")
        return edits.put_back(text, last.flag, own[0].before, f"as it was before number {own[0].number}")


Order: TypeAlias = Kill | Ramp | Serve | Reset | Revert

_ORDERS: Final[Mapping[str, type[Order]]] = {order.kind: order for order in (Kill, Ramp, Serve, Reset, Revert)}


def order_document(order: Order) -> dict[str, Any]:
    """The order as JSON values: ``kind``, and its fields as far as they are not left out."""
    given = {field.name: getattr(order, field.name) for field in fields(order)}
    if isinstance(order, Ramp):
        given["percent"] = int(order.percent) if order.percent == int(order.percent) else float(order.percent)
    return {
        "kind": order.kind,
        **{name: value for name, value in given.items() if value is not None and value is not False},
    }


def order_from(document: Mapping[str, Any]) -> Order:
    """The order that a JSON object says, whose numbers with a point are Decimals. Raises: OrderError."""
    order = _ORDERS.get(document["kind"]) if isinstance(document.get("kind"), str) else None
    if order is None:
        raise OrderError(f"kind: expected one of {', '.join(_ORDERS)}")
    known = {field.name: field for field in fields(order)}
    for name in document:
        if name not in known and name != "kind":
            raise OrderError(f"{order.kind} knows no {shown(name)}; it takes {', '.join(known)}")
    for name, field in known.items():
        if name not in document and field.default is MISSING:
            raise OrderError(f"{order.kind} needs {name}: {_FIELDS[name][1]}")
    return order(**{name: _read(name, value) for name, value in document.items() if name != "kind"})


def percentage(number: Decimal) -> Decimal:
    """``number`` if it is a percentage as rollouts have it. Raises: OrderError."""
    if not number.is_finite() or not 0 <= number <= 100 or number != round(number, 3):
        raise OrderError("expected a number from 0 to 100, three decimals at most")
    return abs(number)  # -0 is 0


def text_of(value: object, most: int = _MAX_TEXT) -> str:
    """``value`` if it is a text that can be stored and shown, without the space around it. Raises: ValueError."""
    if not isinstance(value, str) or not 0 < len(value.strip()) <= most:
        raise ValueError
    value.encode()  # a lone surrogate has no UTF-8 form: UnicodeEncodeError is a ValueError
    return value.strip()


def _read(name: str, value: object) -> Any:
    read, expected = _FIELDS[name]
    try:
        return read(value)
    except ValueError:
        raise OrderError(f"{name}: got {shown(value)}; expected {expected}") from None


def _percent(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise ValueError  # noqa: TRY004 - one kind of error for all of them
    return percentage(Decimal(value))


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_NUMBER:
        raise ValueError
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004
    return value


#: Field -> how it is read from JSON, raising ValueError, and what was expected then.
_FIELDS: Final[Mapping[str, tuple[Callable[[object], Any], str]]] = {
    "flag": (text_of, "the key of a flag"),
    "percent": (_percent, "a number from 0 to 100, three decimals at most"),
    "rule": (text_of, "the name of a rule"),
    "replace_steps": (_truth, "true or false"),
    "variant": (text_of, "the name of a variant"),
    "to": (_whole, "the number of a change"),
    "force": (_truth, "true or false"),
    "in_code": (_truth, "true or false"),
}


def _changes_of(history: History, flag: str | None, to: int | None) -> tuple[Change, ...]:
    """All changes of the flag that is meant, at least one. Raises: EditError."""
    changes = history.changes
    if not changes:
        raise EditError("there is no history, so there is nothing to revert")
    if to is not None and to > changes[-1].number:
        raise EditError(f"there is no number {to}; the last one is {changes[-1].number}")
    if flag is None:
        meant = changes[-1] if to is None else next((change for change in changes if change.number == to), None)
        if meant is None:
            raise EditError(f"number {to} is no change of one flag; name the flag")
        flag = meant.flag
    own = history.of(flag)
    if not own:
        raise EditError(f"{flag}: no change in the history")
    return own
