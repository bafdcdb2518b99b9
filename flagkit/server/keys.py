"""Who may read, write, evaluate and change flags: bearer keys, held as digests and compared in constant time.

It owns the file of generated keys. Nothing here logs, shows or returns a key; callers hand in the Authorization
header and get yes or no.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final

from flagkit.errors import ConfigError
from flagkit.server.config import ServerConfig

#: The generated keys. The client's may read and write, so that one key makes a ``flagkit.Client``.
_ROLES: Final = ("client", "read", "write", "admin")


class Keys:
    """The right keys of a service. Immutable, thread-safe; its repr shows none of them."""

    __slots__ = ("_admin", "_browser", "_read", "_write")

    def __init__(
        self, read: Iterable[str], write: Iterable[str], admin: Iterable[str] = (), browser: Iterable[str] = ()
    ) -> None:
        self._admin = tuple(sha256(key.encode()).digest() for key in admin)
        # Whoever changes flags sees them.
        self._read = (*(sha256(key.encode()).digest() for key in read), *self._admin)
        self._write = tuple(sha256(key.encode()).digest() for key in write)
        self._browser = tuple(sha256(key.encode()).digest() for key in browser)

    def may_read(self, authorization: str | None) -> bool:
        """Whether the header carries a read key or an admin key. Raises: Nothing."""
        return _among(self._read, authorization)

    def may_write(self, authorization: str | None) -> bool:
        """Whether the header carries a write key. Raises: Nothing."""
        return _among(self._write, authorization)

    def may_evaluate(self, authorization: str | None) -> bool:
        """Whether the header carries a browser key: it may ask about flags marked for clients. Raises: Nothing."""
        return _among(self._browser, authorization)

    def may_change(self, authorization: str | None) -> bool:
        """Whether the header carries an admin key. Raises: Nothing."""
        return _among(self._admin, authorization)

    def may(self, authorization: str | None) -> tuple[str, ...]:
        """All that the header's key may do: read, write, change, evaluate. Raises: Nothing."""
        asked = {
            "read": self.may_read,
            "write": self.may_write,
            "change": self.may_change,
            "evaluate": self.may_evaluate,
        }
        return tuple(verb for verb, allowed in asked.items() if allowed(authorization))


def keys_for(config: ServerConfig) -> Keys:
    """The configured keys; where none are, the generated ones, which are made at the first start.

    Raises: ConfigError when the file of generated keys cannot be used, can be read by others or does not hold keys, or
        when one of them is given to browsers.
    """
    if config.read_keys and config.write_keys:
        return Keys(config.read_keys, config.write_keys, config.admin_keys, config.browser_keys)
    try:
        try:
            generated = _generate(config.keys_path)
        except FileExistsError:
            generated = _load(config.keys_path)
    except OSError as error:
        expected = f"a regular file that can be made and read ({error.strerror})"
        raise ConfigError("keys file", str(config.keys_path), expected) from None
    if not set(config.browser_keys).isdisjoint(generated.values()):
        raise ConfigError("browser_keys", config.browser_keys, "none of the generated keys, which do more", secret=True)
    both = generated["client"]
    return Keys(
        config.read_keys or (generated["read"], both),
        config.write_keys or (generated["write"], both),
        config.admin_keys or (generated["admin"],),
        config.browser_keys,
    )


def _among(digests: tuple[bytes, ...], authorization: str | None) -> bool:
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        return False
    given = sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
    # Every digest is compared, so that the time taken does not tell which one was right.
    return sum(hmac.compare_digest(given, digest) for digest in digests) > 0


def _generate(path: Path) -> dict[str, str]:
    keys = {role: secrets.token_urlsafe(24) for role in _ROLES}
    _write(path, keys)
    return keys


def _write(path: Path, keys: dict[str, str]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(json.dumps(keys) + "\n")


def _replace(path: Path, keys: dict[str, str]) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    _write(draft, keys)
    os.replace(draft, path)


def _load(path: Path) -> dict[str, str]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, encoding="ascii", errors="replace") as file:
        status = os.fstat(descriptor)
        if status.st_mode & 0o077 or status.st_uid != os.getuid():
            raise ConfigError("keys file", str(path), "a file that only its owner, this user, can read (mode 0600)")
        text = file.read(65_536)
    try:
        keys = json.loads(text)
        if isinstance(keys, dict) and "admin" not in keys:  # from before there were admin keys
            keys["admin"] = secrets.token_urlsafe(24)
            _replace(path, {role: _key(keys[role]) for role in _ROLES})
        return {role: _key(keys[role]) for role in _ROLES}
    except (ValueError, TypeError, KeyError):
        # from None: the parser's message may quote the file
        raise ConfigError(
            "keys file", str(path), 'JSON of the form {"client": "...", "read": "...", "write": "...", "admin": "..."}'
        ) from None


def _key(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("a key is a string")
    return value
