"""The words for a name that is not there: the nearest one that is, or else what there is, as far as a line holds it.

Pure wording, bounded however many names there are and however long. Called by the edits of a document, and by the
commands that are given the name of a flag, a variant or a segment.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from itertools import islice
from typing import Final

_MOST_LISTED: Final = 8
_MOST_CHARS: Final = 64


def unknown(noun: str, name: str, known: Collection[str]) -> str:
    """``no flag 'chekout'; did you mean 'checkout'?``, or with nothing like it ``...; there are: 'items', 'old'``.

    Args: noun, what is named; known, what there is, of which eight are listed at the most. Raises: nothing.
    """
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"no {noun} {name!r}; did you mean {near[0]!r}?"
    if not known:
        return f"no {noun} {name!r}; there is none"
    listed = ", ".join(_short(each) for each in islice(known, _MOST_LISTED))
    more = f" and {len(known) - _MOST_LISTED:,} more" if len(known) > _MOST_LISTED else ""
    return f"no {noun} {name!r}; there {'is' if len(known) == 1 else 'are'}: {listed}{more}"


def _short(name: str) -> str:
    return repr(name if len(name) <= _MOST_CHARS else f"{name[:_MOST_CHARS]}...")
