"""Ctrl-C and its kin at the right moment: not while a process is being started, not while everything is cleaned up.

Main thread only, like all of Python's signal handling.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_is_an_exception() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does, instead of ending this process on the spot."""

    def unwind(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    # What is ignored already stays so: that is what nohup is for. Ctrl-C raises KeyboardInterrupt anyway.
    deadly = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    before = {number: signal.signal(number, unwind) for number in deadly}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held_off() -> Iterator[None]:
    """Signals that would end this process wait until the block is done."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for each in came:
            signal.raise_signal(each)
