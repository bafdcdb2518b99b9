"""The library's one logger. ``logging`` is loaded when the first client is made: it would be a fifth of the import.

Called by constructors, never by a thread of the library's: importing in the moment of a fork can hang the child.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging

#: ``logging``'s own numbers.
INFO: Final = 20
WARNING: Final = 30


def logger() -> logging.Logger:
    """The logger ``flagkit``; an application that configures no logging gets no lines on its stderr."""
    import logging

    found = logging.getLogger("flagkit")
    if not found.handlers:
        found.addHandler(logging.NullHandler())
    return found
