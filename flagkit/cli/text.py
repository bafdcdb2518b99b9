"""Text for a terminal: one line stays one line, and columns line up. Used by every command."""

from __future__ import annotations

from collections.abc import Sequence


def plain(text: str) -> str:
    """``text`` on one line: control characters, line ends and lone surrogates are written as escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def columns(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> list[str]:
    """``rows`` as lines whose cells line up, two spaces apart; the columns in ``right`` are flush right."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def counted(number: int, noun: str) -> str:
    """``1 flag``, ``1,200 flags``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(part: int, whole: int) -> str:
    """``part`` of ``whole`` in percent, two decimals."""
    return f"{100 * part / whole:.2f} %" if whole else "-"
