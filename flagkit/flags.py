"""Declared flags: a key, its type and its safe value in one typed constant."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from flagkit.core.dates import DATE_FORM, parse_date_ms
from flagkit.errors import ConfigError

T = TypeVar("T")


class Flag(str, Generic[T]):
    """A flag's key that knows its default: usable wherever a key is, and ``client.value(flag)`` has the default's type.

        MAX_ITEMS = flagkit.Flag("max-items", default=10, owner="search", expires="2027-06-30")
        client.value(MAX_ITEMS, user)  # int

    Args:
        key: the flag's key.
        default: what applies whenever there is no answer; for ``value`` its JSON type is the type expected.
        owner: who to ask. expires: when the flag should be gone, RFC 3339 or YYYY-MM-DD; read by ``flagkit lint``.

    Raises: ConfigError for an empty key or an unreadable date.
    """

    __slots__ = ("default", "expires", "owner")

    default: T
    owner: str | None
    expires: str | None

    def __new__(cls, key: str, *, default: T, owner: str | None = None, expires: str | None = None) -> Flag[T]:
        if not isinstance(key, str) or not key:
            raise ConfigError("key", key, "the key of a flag")
        if expires is not None and (not isinstance(expires, str) or parse_date_ms(expires) is None):
            raise ConfigError("expires", expires, DATE_FORM)
        flag = super().__new__(cls, key)
        flag.default = default
        flag.owner = owner
        flag.expires = expires
        return flag

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        return (str(self),), {"default": self.default, "owner": self.owner, "expires": self.expires}

    def __repr__(self) -> str:
        return f"Flag({str(self)!r}, default={self.default!r})"
