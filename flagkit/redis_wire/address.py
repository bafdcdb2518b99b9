"""Where a Redis is: a checked URL in parts, and what redis-py needs to reach it. Pure but for reading ``ca_file``.

Owns the rules that keep secrets off the open wire, as ``http.address`` does for URLs of services: TLS everywhere but on
loopback, always verified, and a password that nothing shows.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from flagkit.errors import ConfigError
from flagkit.http.address import is_loopback
from flagkit.http.secret import Secret

_PORT: Final = 6379


class RedisAddress(NamedTuple):
    """One database of one server."""

    tls: bool
    host: str
    port: int
    database: int
    user: str | None
    password: Secret | None

    @property
    def shown(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis{'s' if self.tls else ''}://{host}:{self.port}/{self.database}"


def redis_address(url: object, *, allow_insecure_redis: bool) -> RedisAddress:
    """Raises: ConfigError, in which nothing of the URL is shown: it may have a password anywhere."""
    from urllib.parse import unquote, urlsplit

    def wrong(expected: str) -> ConfigError:
        return ConfigError("url", url, expected, secret=True)

    form = "a URL such as rediss://user:password@redis.example.com:6379/0, without query and fragment"
    if not isinstance(url, str) or not url.isprintable() or " " in url or "?" in url or "#" in url:
        raise wrong(form)
    try:
        parts = urlsplit(url)
        port, database = parts.port or _PORT, parts.path.strip("/") or "0"
    except ValueError:
        raise wrong(form) from None
    host = parts.hostname
    if parts.scheme not in ("redis", "rediss") or not host or not database.isdecimal() or len(database) > 5:
        raise wrong(form)
    if parts.scheme == "redis" and not (allow_insecure_redis or is_loopback(host)):
        raise wrong(
            "rediss://, or redis:// on loopback; allow_insecure_redis=True sends definitions and passwords in the clear"
        )
    password = Secret(unquote(parts.password), "url") if parts.password else None
    user = unquote(parts.username or "") or None
    return RedisAddress(parts.scheme == "rediss", host, port, int(database), user, password)


def tls_settings(ca_file: object) -> dict[str, Any]:
    """What redis-py needs to verify always."""
    import ssl

    if ca_file is not None:
        try:
            ssl.create_default_context(cafile=ca_file)  # type: ignore[arg-type]
        except (OSError, TypeError, ValueError):
            expected = "the path of a PEM file with at least one certificate"
            raise ConfigError("ca_file", ca_file, expected) from None
    return {
        "ssl": True,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
        "ssl_ca_certs": ca_file,
    }
