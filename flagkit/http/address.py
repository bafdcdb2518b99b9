"""Addresses: which URLs flagkit speaks to, and which redirects stay at home.

Owns the rules that keep keys off the open wire: https everywhere but on loopback, no credentials inside a URL, nothing
followed to another origin. Pure; ``Wire`` asks it at construction and at each redirect.
"""

from __future__ import annotations

from typing import Final

from flagkit.errors import ConfigError
from flagkit.http.secret import Secret

_MAX_URL: Final = 2048
_PORTS: Final = {"http": 80, "https": 443}


def endpoint(url: object, path: str, *, field: str = "url", allow_insecure_http: bool) -> str:
    """The URL to speak to: ``url`` as it is, completed with ``path`` when it has none of its own.

    Raises: ConfigError naming ``field`` unless it is a well-formed https URL (http on loopback, or anywhere when
        ``allow_insecure_http``) without user name, query and fragment. A value that may hold a secret is not shown.
    """
    # Imported here because it costs every `import flagkit` 3 ms, also of those who never construct an HTTP source.
    from urllib.parse import urlsplit

    if not isinstance(url, str):
        raise ConfigError(field, url, "a string such as https://flags.example.com")

    def wrong(expected: str) -> ConfigError:
        return ConfigError(field, url, expected, secret="@" in url or "?" in url)

    if not url.isprintable() or " " in url or "\\" in url or len(url) > _MAX_URL:
        raise wrong("a URL of at most 2,048 characters without spaces, control characters and backslashes")
    try:
        parts = urlsplit(url)
        _ = parts.port  # parsed on access
    except ValueError:
        raise wrong("a URL such as https://flags.example.com") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise wrong("a URL such as https://flags.example.com")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise wrong("a URL without user name, query and fragment, which end up in logs; the key goes into key=")
    if _in_the_clear(parts.scheme, parts.hostname, allow_insecure_http):
        raise wrong(
            "https://, or http:// on loopback; allow_insecure_http=True sends definitions and keys in the clear"
        )
    return url if parts.path not in ("", "/") else f"{parts.scheme}://{parts.netloc}{path}"


def hidden_endpoint(url: object, field: str, *, allow_insecure_http: bool) -> tuple[str, Secret]:
    """What may be shown of a URL that is a secret as a whole: its origin, with ``-`` for a path; and what to ask for.

    Raises: ConfigError naming ``field``, as ``endpoint``, but a query is part of the secret. Nothing of it is shown.
    """
    from urllib.parse import urlsplit

    def wrong(expected: str) -> ConfigError:
        return ConfigError(field, url, expected, secret=True)

    form = "a URL of at most 2,048 printable ASCII characters, without user name and fragment"
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or len(url) > _MAX_URL:
        raise wrong(form)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise wrong(form) from None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or any(each in url for each in " \\#"):
        raise wrong(form)
    if _in_the_clear(parts.scheme, parts.hostname, allow_insecure_http):
        raise wrong("https://, or http:// on loopback; allow_insecure_http=True sends it all in the clear")
    target = Secret((parts.path or "/") + ("?" + parts.query if parts.query else ""), field)
    return f"{parts.scheme}://{parts.netloc}/-", target


def _in_the_clear(scheme: str, host: str, allowed: bool) -> bool:
    return scheme == "http" and not (allowed or is_loopback(host))


def queried(url: str, query: Secret) -> Secret:
    """What to ask for at ``url``, which has no query: its path, and ``query`` behind it."""
    from urllib.parse import urlsplit

    return Secret(f"{urlsplit(url).path}?{query.reveal()}", "query")


def redirected(url: str, location: str | None) -> str | None:
    """Where a redirect from ``url`` leads; None when that is another scheme, host or port, or no address at all."""
    from urllib.parse import urljoin, urlsplit

    try:
        target = urljoin(url, location or "")
        here, there = urlsplit(url), urlsplit(target)
        same = (here.scheme, here.hostname, here.port or _PORTS[here.scheme]) == (
            there.scheme,
            there.hostname,
            there.port or _PORTS.get(there.scheme),
        )
    except ValueError:
        return None
    return target if same and location and "@" not in there.netloc else None


def is_loopback(host: str) -> bool:
    from ipaddress import ip_address

    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
