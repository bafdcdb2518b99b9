"""What cannot be changed once it is made: ``Frozen``, of which settings are, and ``ReadOnly``, a mapping in a status.

They compare by value, and can be copied and sent to another process. It knows nobody's fields and checks none: that is
for whoever derives from it. Nothing here keeps out who goes round it with ``object.__setattr__``.
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Frozen:
    """A value whose fields are its ``__slots__``: put there by its ``__init__``, which takes all of them by keyword."""

    __slots__: tuple[str, ...] = ()

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen; make a new one with {name}={value!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen; make a new one without {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __reduce__(self) -> tuple[Any, ...]:
        # Through its ``__init__``, so that what comes from another process is checked like anything else.
        return _made, (type(self), dict(zip(self.__slots__, self._values(), strict=True)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


def _made(kind: type[Any], fields: dict[str, Any]) -> Any:
    return kind(**fields)


def _refuse(*_: object, **__: object) -> NoReturn:
    raise TypeError("a status is read-only; change a copy, dict(...)")


class ReadOnly(dict[K, V]):
    """A dict to look at. Equal to one with the same items; ``copy`` and ``|`` make dicts that can be changed.

    Not ``types.MappingProxyType``, which can be neither pickled nor written as JSON.
    """

    __slots__ = ()

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return ReadOnly, (dict(self),)
