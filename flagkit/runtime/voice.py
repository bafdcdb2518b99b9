"""What users say of a flag, as metric events: feedback tied to the variant they have, and opting in or out.

It owns what such an event holds and within which bounds; ``Recording`` owns what becomes of it. Answers come in made:
it decides nothing and records no exposure. The client calls it, and loads it when somebody first says something.
"""

from __future__ import annotations

import math
from typing import Any, Final

from flagkit.context import Context, current_scope
from flagkit.core.model import Definitions
from flagkit.decision import Decision, ErrorCode, Reason
from flagkit.events import ENROLMENT, FEEDBACK, MAX_FEEDBACK
from flagkit.runtime.recording import Recording

_MAX_FLAG: Final = 128


def feedback(recording: Recording, decision: Decision, context: Context, score: object, text: object) -> None:
    """Record what the context's unit says of the flag that answered ``decision``.

    Of a forced answer nothing is recorded. What cannot be sent, or is about no flag, is lost alone, as
    ``invalid_feedback``.
    """
    if decision.reason is Reason.OVERRIDE or context.synthetic:
        return
    words = None if text is None else _words(text)
    unknown = decision.error_code is ErrorCode.FLAG_NOT_FOUND or decision.flag == "?"
    scored = _is_score(score)
    bad = (text is not None and words is None) or (score is not None and not scored)
    if bad or unknown or not (words or scored):
        recording.refuse("invalid_feedback")
        return
    said = {"flag": decision.flag, "variant": decision._arm, "version": decision.version, "text": words or None}
    number: Any = score
    recording.track(FEEDBACK, context, number, {name: value for name, value in said.items() if value is not None})


def enrol(recording: Recording, definitions: Definitions | None, flag: object, context: Context, wanted: bool) -> bool:
    """Record that the context's unit opts in to a flag or out of it; return whether that will be sent.

    definitions: what is known of flags; None: nothing yet, so that who receives it judges.
    """
    if context.synthetic:
        return False
    if not issubclass(type(flag), str) or not 0 < len(key := str.__str__(flag)) <= _MAX_FLAG:
        recording.refuse("not_offered")
        return False
    if definitions is not None and ((found := definitions.flags.get(key)) is None or not found.early_access):
        recording.refuse("not_offered")
        return False
    if not context._key:
        recording.refuse("invalid_context" if context._key is False else "no_unit")
        return False
    if not recording.track(ENROLMENT, context, None, {"flag": key, "enrolled": wanted}):
        return False
    scope = current_scope()
    if scope is not None and scope.context is context:
        scope.enrol(key, wanted)
    return True


def _words(text: object) -> str | None:
    """The text as it is sent; None when it is none."""
    if not issubclass(type(text), str):
        return None
    # A lone surrogate has no UTF-8 form; the rest of what somebody took the time to write has.
    return str.__str__(text)[:MAX_FEEDBACK].encode("utf-8", "replace").decode()


def _is_score(score: object) -> bool:
    if type(score) not in (int, float):
        return False
    try:
        return math.isfinite(score)  # type: ignore[arg-type]
    except OverflowError:  # an integer beyond any float
        return False
