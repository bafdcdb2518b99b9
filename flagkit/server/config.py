"""``ServerConfig``: the settings of the embedded service, checked when they are made.

It knows the rule that a service others can reach has keys of its own choosing. It opens nothing.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from flagkit.errors import ConfigError

_MAX_KEY = 256


@dataclass(frozen=True)
class ServerConfig:
    """Settings of the service.

    definitions: the native definitions file, read again whenever it changes.
    db: the SQLite file for events and the number of the definitions; made when it is not there.
    host: an address or host name to listen on. Anything but loopback needs ``read_keys`` and ``write_keys``.
    port: 1 to 65,535, or 0 for a free one.
    read_keys, write_keys: who may fetch definitions and summaries, and who may send events; 1 to 256 visible ASCII
        characters each. A key may stand in both. Empty: one is generated and kept in ``keys_path``.
    admin_keys: who may change flags, and read. Empty: one is generated where others are; when both others are given,
        nobody may change flags through the service.
    heartbeat_s: how often whoever listens for changes hears something at the least, seconds, 0.1 to 300.
    max_streams: how many may listen at any time, 0 to 100,000. Each holds one connection.

    Raises: ConfigError naming the field.
    """

    definitions: Path
    db: Path
    host: str = "127.0.0.1"
    port: int = 8400
    read_keys: tuple[str, ...] = field(default=(), repr=False)
    write_keys: tuple[str, ...] = field(default=(), repr=False)
    admin_keys: tuple[str, ...] = field(default=(), repr=False)
    heartbeat_s: float = 15.0
    max_streams: int = 2000

    def __post_init__(self) -> None:
        for name in ("definitions", "db"):
            path = getattr(self, name)
            if not isinstance(path, (str, Path)) or not str(path):
                raise ConfigError(name, path, "the path of a file")
            object.__setattr__(self, name, Path(path))
        if not isinstance(self.host, str) or not self.host:
            raise ConfigError("host", self.host, "an address or a host name")
        if isinstance(self.port, bool) or not isinstance(self.port, int) or not 0 <= self.port <= 65_535:
            raise ConfigError("port", self.port, "a port from 1 to 65,535, or 0 for a free one")
        heartbeat_s, most = self.heartbeat_s, self.max_streams
        if isinstance(heartbeat_s, bool) or not isinstance(heartbeat_s, (int, float)) or not 0.1 <= heartbeat_s <= 300:
            raise ConfigError("heartbeat_s", heartbeat_s, "a number of seconds from 0.1 to 300")
        if isinstance(most, bool) or not isinstance(most, int) or not 0 <= most <= 100_000:
            raise ConfigError("max_streams", most, "a whole number from 0 to 100,000")
        for name in ("read_keys", "write_keys", "admin_keys"):
            object.__setattr__(self, name, _keys(name, getattr(self, name)))
            if not getattr(self, name) and not self.loopback and name != "admin_keys":
                raise ConfigError(
                    name, (), f"at least one key, because host {self.host!r} can be reached from elsewhere"
                )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def keys_path(self) -> Path:
        """Where generated keys are kept: beside the database, readable by its owner only."""
        return Path(f"{self.db}.keys.json")


def _keys(field_name: str, keys: object) -> tuple[str, ...]:
    expected = f"a list of keys of 1 to {_MAX_KEY} visible ASCII characters"
    if not isinstance(keys, (tuple, list)):  # a str is a sequence of keys of one character: surely not meant
        raise ConfigError(field_name, keys, expected, secret=True)
    for key in keys:
        if not isinstance(key, str) or not 0 < len(key) <= _MAX_KEY or not all("!" <= c <= "~" for c in key):
            raise ConfigError(field_name, key, expected, secret=True)
    return tuple(keys)
