"""``Failure``: what a call failed of, in a word that can be counted, and the place where that was raised.

An exception's type and its place; never its message, which may hold what a user typed. To whoever counts it is the word
alone. Gates make them, meters read them.
"""

from __future__ import annotations

from typing import Final, Self

from flagkit.boundary import contained

_MAX_WORD: Final = 128
_MAX_PLACE: Final = 128
#: The deepest place that is looked for; far beyond what a recursion that went wrong leaves behind.
_DEEPEST: Final = 10_000


class Failure(str):
    """A word. place: ``folder/file.py:line``, where the exception came from; None if that is not known."""

    __slots__ = ("place",)
    place: str | None

    def __new__(cls, word: str, place: str | None = None) -> Self:
        failure = super().__new__(cls, word)
        failure.place = place
        return failure

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure that ``error`` is: the name of its type. Raises: nothing, whatever the exception is like."""
        word = contained(_word, error, otherwise="") or "Exception"
        return cls(word, contained(_place, error, otherwise=None))


def _word(error: BaseException) -> str:
    name: object = type(error).__name__
    return name[:_MAX_WORD] if type(name) is str else ""


def _place(error: BaseException) -> str | None:
    trace = error.__traceback__
    if trace is None:
        return None
    for _ in range(_DEEPEST):
        if trace.tb_next is None:
            break
        trace = trace.tb_next
    # Two parts of the path: the whole of it says where somebody installed things, and is different on every machine.
    path = trace.tb_frame.f_code.co_filename.replace("\\", "/").rsplit("/", 2)[-2:]
    place = f"{'/'.join(path)}:{trace.tb_lineno}"
    return place.encode("ascii", "replace").decode()[-_MAX_PLACE:]
