"""What another may be asked about flags that cannot be decided in this process: the form of question and answer.

Evaluation asks and gets what is known, at once. Who asks whom, and when, is the business of whoever implements
``Elsewhere`` (``runtime.inquiries``); what a question says, and what an answer means, is a dialect's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from flagkit.decision import Decision


class Heard:
    """An answer for a flag: the variant, whether it is enabled, and what was told of it for events.

    made: the outcome this was last taken for, and the decision made of the two; whoever asks keeps it here.
    """

    __slots__ = ("enabled", "facts", "made", "variant")

    def __init__(self, variant: str, enabled: bool, facts: Mapping[str, str | int | bool]) -> None:
        self.variant = variant
        self.enabled = enabled
        self.facts = facts
        self.made: tuple[Decision, Decision] | None = None


class Elsewhere(Protocol):
    """Who may be asked."""

    def answer(self, flag: str, version: str, question: str) -> Heard | None:
        """What is known by now; None: nothing is. Any thread, no lock, no waiting. Raises: nothing.

        Args: version, of the flag's definition: an answer that was given to another one counts no more. question, what
            the dialect made of the context; the same text for the same context.
        """
        ...
