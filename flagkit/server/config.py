"""``ServerConfig``: the settings of the embedded service, checked when they are made.

It knows the rule that a service others can reach has keys of its own choosing. It opens nothing.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from flagkit.errors import ConfigError

_MAX_KEY = 256
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?").fullmatch
#: Browsers leave out the port that goes without saying, so that an origin with it would never be met.
_UNSAID = re.compile(r"http://.*:80|https://.*:443").fullmatch


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
    browser_keys: who may ask about the flags marked ``"client": true``, and nothing else. They are no secret: they
        stand in pages and apps. None of them may stand in another list too, and none is generated.
    origins: the pages that may ask with them or with any key, each as browsers name it: ``https://shop.example.com``.
    browser_requests_per_s: how many requests with browser keys are answered, all together, 0.1 to 1,000,000.
    heartbeat_s: how often whoever listens for changes hears something at the least, seconds, 0.1 to 300.
    max_units: how many may be enrolled in a flag at any time, by ``client.enroll``, 0 to 100,000. The units enrolled in
        all flags take at most 2 MiB of the definitions.
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
    browser_keys: tuple[str, ...] = field(default=(), repr=False)
    origins: tuple[str, ...] = ()
    browser_requests_per_s: float = 100.0
    heartbeat_s: float = 15.0
    max_streams: int = 2000
    max_units: int = 10_000

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
        _check_number("heartbeat_s", self.heartbeat_s, 300, "a number of seconds from 0.1 to 300")
        _check_number(
            "browser_requests_per_s", self.browser_requests_per_s, 1_000_000, "a number from 0.1 to 1,000,000"
        )
        for name in ("max_streams", "max_units"):
            most = getattr(self, name)
            if isinstance(most, bool) or not isinstance(most, int) or not 0 <= most <= 100_000:
                raise ConfigError(name, most, "a whole number from 0 to 100,000")
        object.__setattr__(self, "origins", _origins(self.origins))
        object.__setattr__(self, "browser_keys", _keys("browser_keys", self.browser_keys))
        for name in ("read_keys", "write_keys", "admin_keys"):
            object.__setattr__(self, name, _keys(name, getattr(self, name)))
            if not getattr(self, name) and not self.loopback and name != "admin_keys":
                raise ConfigError(
                    name, (), f"at least one key, because host {self.host!r} can be reached from elsewhere"
                )
            if not set(self.browser_keys).isdisjoint(getattr(self, name)):
                expected = f"keys that are not in {name} too: everyone who opens a page can read them"
                raise ConfigError("browser_keys", self.browser_keys, expected, secret=True)

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


def _check_number(field_name: str, number: object, most: float, expected: str) -> None:
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0.1 <= number <= most:
        raise ConfigError(field_name, number, expected)


def _origins(origins: object) -> tuple[str, ...]:
    expected = "a list of origins as browsers name them, such as 'https://shop.example.com'; there is no wildcard"
    if not isinstance(origins, (tuple, list)):
        raise ConfigError("origins", origins, expected)
    for origin in origins:
        if not isinstance(origin, str) or not _ORIGIN(origin) or _UNSAID(origin):
            raise ConfigError("origins", origin, expected)
    return tuple(origins)


def _keys(field_name: str, keys: object) -> tuple[str, ...]:
    expected = f"a list of keys of 1 to {_MAX_KEY} visible ASCII characters"
    if not isinstance(keys, (tuple, list)):  # a str is a sequence of keys of one character: surely not meant
        raise ConfigError(field_name, keys, expected, secret=True)
    for key in keys:
        if not isinstance(key, str) or not 0 < len(key) <= _MAX_KEY or not all("!" <= c <= "~" for c in key):
            raise ConfigError(field_name, key, expected, secret=True)
    return tuple(keys)
