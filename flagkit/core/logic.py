"""The form of a flag that is ready to answer, and of what a dialect gives for one that its backend decides its own way.

Types only. ``compile`` makes functions of this form of native flags, and has ``Logic`` make them of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from flagkit.context import Context
from flagkit.decision import Decision, ErrorCode, Reason

#: The value of a variant is what the flag's definition says.
ITS_OWN: Final[Any] = object()
Forced: TypeAlias = "Mapping[str, str | bool] | None"
#: No flag has this key: what is asked with it is answered as without overrides, and no server is asked for its sake.
FORCES_NOTHING: Final = {"": False}


class Parents(Protocol):
    """What answers for the other flags of the same definitions."""

    def decide(self, flag: str, context: Context, forced: Forced = None) -> Decision: ...


#: Context, forced answers, and the parent flags' decisions by key -> decision. A plain dict with a proper ``unit`` is
#: read in place; of any other it raises, and ``as_context`` is the way.
Decide: TypeAlias = "Callable[[Context | dict[str, Any], Forced, Parents], Decision]"
#: Milliseconds since 1970 on the definitions' clock.
Now: TypeAlias = Callable[[], int]


class Answers(Protocol):
    """Makes the decisions one flag may come to, each once. All are made before the first question."""

    def serve(
        self,
        variant: str,
        reason: Reason,
        rule: str | None = None,
        analysable: bool = False,
        *,
        enabled: bool | None = None,
        value: Any = ITS_OWN,
        named: str | None = None,
    ) -> Decision:
        """The decision to serve ``variant``, one of the flag's.

        enabled: None, if it is not the off variant. value: what is served with it by this rule. named: what callers
        are told, where the backend calls several variants by one name; guards and exposures tell them apart.
        """
        ...

    def otherwise(self, reason: Reason) -> Decision:
        """The decision that there is none, and the caller's default applies."""
        ...

    def fail(self, code: ErrorCode, rule: str | None = None) -> Decision:
        """The decision that something is wrong, and the caller's default applies. ``rule``: what stood in the way."""
        ...


#: How a flag of another backend decides: given what makes its decisions, and the clock, the function of one flag. It is
#: called at the flag's first question, and is pure. Switches, trips and overrides are seen to around it.
Logic: TypeAlias = Callable[[Answers, Now], Decide]
