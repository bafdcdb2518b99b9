"""Source text that becomes functions: the one place where code is generated. Compilers of definitions write it.

They write it from fixed parts only: what comes from a document is a constant, which is passed to ``make`` and never
stands in the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

#: Texts whose functions are kept, of each compiler: shapes recur, and text takes long to compile.
_KEPT: Final = 1024


def maker(called: Mapping[str, Any]) -> _lru_cache_wrapper[Callable[..., Any]]:
    """What turns the text of a function ``make`` into that function, which takes the constants and returns another.

    called: name -> what the text may use besides its constants; nothing else, not even the builtins.
    """
    names = {"__builtins__": {}, **called}

    @lru_cache(maxsize=_KEPT)
    def make(source: str) -> Callable[..., Any]:
        namespace = dict(names)
        exec(compile(source, "<flag>", "exec"), namespace)  # noqa: S102 - of fixed parts only: see above
        made: Callable[..., Any] = namespace["make"]
        return made

    return make


def indented(lines: list[str]) -> list[str]:
    """The lines, one step further in."""
    return [" " + line for line in lines]
