"""A client as gates see it: answers as told, and a branch that writes down what it hears."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from flagkit.context import Context, as_context
from flagkit.decision import Decision, Reason
from flagkit.production.passage import Chosen


class Ended(NamedTuple):
    variant: str | None
    key: bytes | None
    error: str | None
    seconds: float | None
    patient: bool


class FakeBranch:
    by = None

    def __init__(self, chooser: FakeChooser, variant: str | None) -> None:
        self.chooser = chooser
        self.variant = variant

    def begin(self, key: bytes | None, patient: bool = False) -> Any:
        self.chooser.begun.append((self.variant, key))
        return key, patient

    def end(self, call: Any, error: str | None = None, seconds: float | None = None) -> None:
        key, patient = call
        self.chooser.ended.append(Ended(self.variant, key, error, seconds, patient))

    def leave(self, call: Any, died: bool = False) -> None:
        self.chooser.left.append((self.variant, call[0]))


class FakeChooser:
    """``variants``: unit -> variant; everybody else gets ``off``. ``ambient``: who asks without a context."""

    def __init__(self, **variants: str) -> None:
        self.variants = variants
        self.ambient: Callable[[], object] = Context
        self.asked: list[tuple[str, Context]] = []
        self.begun: list[tuple[str | None, bytes | None]] = []
        self.ended: list[Ended] = []
        self.left: list[tuple[str | None, bytes | None]] = []

    def choose(self, flag: str, context: object) -> Chosen:
        asker = as_context(self.ambient() if context is None else context)
        self.asked.append((flag, asker))
        variant = self.variants.get(asker.unit_text or "", "off")
        decision = Decision(flag, variant, variant, Reason.SPLIT, enabled=variant != "off", version="7")
        return decision, FakeBranch(self, variant), asker._key or None

    @property
    def errors(self) -> list[tuple[str | None, str | None]]:
        """Variant and error of the calls that have ended."""
        return [(ended.variant, ended.error) for ended in self.ended]
