"""The definitions of the demo: a rollout, a split, a guarded rollout, and the editions the file goes through.

It owns what each edition promises in percent, so that the report can hold the service to it. Nothing else writes
the file. The web application knows the names of the flags from here and no more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

CHECKOUT: Final = "new-checkout"
CLASSIC: Final = "classic"
EXPRESS: Final = "express"
BUTTON: Final = "button-colour"
PAYMENT: Final = "new-payment"
#: The split of the button's colours, in percent.
COLOURS: Final = {"blue": 50, "green": 30, "orange": 20}

_HEX: Final = {"blue": "#1f6feb", "green": "#2da44e", "orange": "#d4731a"}


class Edition(NamedTuple):
    """One state of the file.

    title: for people. version: of the document and of the rollout, so that every answer tells which edition gave it.
    percent: of users that the rollout is for. enabled: False once the kill switch is pulled. payment: percent of users
    that the guarded rollout is for; None: the flag is not there.
    """

    title: str
    version: str
    percent: int
    enabled: bool = True
    payment: int | None = None

    @property
    def promised(self) -> Mapping[str, float]:
        """Variant of the rollout -> percent of users who are to get it."""
        express = self.percent if self.enabled else 0
        return {CLASSIC: 100 - express, EXPRESS: express}

    def publish(self, path: Path) -> None:
        """Replace the file in one step: a reader sees the old edition or this one. Raises: OSError."""
        draft = path.with_suffix(".draft")
        draft.write_bytes(self.document())
        os.replace(draft, path)

    def document(self) -> bytes:
        """What the file holds."""
        return json.dumps(self._document(), indent=2).encode() + b"\n"

    def _document(self) -> dict[str, Any]:
        checkout = {
            "description": "The checkout on one page instead of three.",
            "owner": "payments",
            "version": self.version,
            "enabled": self.enabled,
            "variants": {
                CLASSIC: {"title": "Checkout", "steps": ["address", "payment", "summary"]},
                EXPRESS: {"title": "Express checkout", "steps": ["everything"]},
            },
            "off": CLASSIC,
            "rules": [{"name": "ramp", "rollout": {"percent": self.percent}, "serve": EXPRESS}],
        }
        split = [{"variant": colour, "weight": weight} for colour, weight in COLOURS.items()]
        button = {
            "description": "Which button people press.",
            "kind": "experiment",
            "version": "1",
            "variants": {colour: {"background": _HEX[colour], "label": "Buy"} for colour in COLOURS},
            "off": "blue",
            "rules": [{"name": "test", "split": split}],
        }
        payment = {
            "description": "The payment provider that is cheaper, and cannot pay everybody.",
            "owner": "payments",
            "guard": {"revision": 1},
            "rules": [{"name": "ramp", "rollout": {"percent": self.payment}, "serve": "on"}],
        }
        flags = {CHECKOUT: checkout, BUTTON: button, **({PAYMENT: payment} if self.payment is not None else {})}
        return {"schema": 1, "version": self.version, "environment": "demo", "flags": flags}


FIRST: Final = Edition("5 %", "1", 5)
RAISED: Final = Edition("25 %", "2", 25)
KILLED: Final = Edition("kill switch", "3", 25, enabled=False)
TRIED: Final = Edition("guard, 1 %", "4", 25, enabled=False, payment=1)
RAMPED: Final = Edition("guard, 25 %", "5", 25, enabled=False, payment=25)
