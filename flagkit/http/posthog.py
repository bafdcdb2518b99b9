"""PostHog's addresses and keys: which host is meant, and which of the two kinds of key is given.

Knows nothing of what is exchanged. The source and the sink of that name ask at construction.
"""

from __future__ import annotations

from typing import Final

from flagkit.errors import ConfigError
from flagkit.http.secret import Secret

#: Where the definitions and the events of PostHog Cloud, US, are.
CLOUD: Final = "https://us.i.posthog.com"
#: Addresses that people know -> those that serve libraries.
_SERVING: Final = {
    "https://app.posthog.com": CLOUD,
    "https://us.posthog.com": CLOUD,
    "https://eu.posthog.com": "https://eu.i.posthog.com",
}
_MAX_TOKEN: Final = 200


def address(host: object, path: str) -> str:
    """The URL of ``path`` at a PostHog ``host``, which may have a path of its own. Raises: ConfigError("host")."""
    if not isinstance(host, str) or "?" in host or "#" in host:
        raise ConfigError("host", host, f"a URL such as {CLOUD}", secret=isinstance(host, str))
    trimmed = host.rstrip("/")
    return _SERVING.get(trimmed, trimmed) + path


def checked_token(token: object) -> Secret:
    """A project's token, which names it and is no secret to PostHog; to others it is none of their business.

    Raises: ConfigError("project_token"), also for a personal key, which must not travel where tokens do.
    """
    plain = isinstance(token, str) and token.isascii() and len(token) <= _MAX_TOKEN and not token.startswith("phx_")
    if not plain:
        raise ConfigError("project_token", token, "the token of a project, such as phc_..., not a key", secret=True)
    return Secret(token, "project_token")


def checked_key(key: object) -> Secret:
    """A personal or project secret key, for definitions. Raises: ConfigError("personal_key"), also for a token."""
    if isinstance(key, str) and key.startswith("phc_"):
        expected = "a personal or secret key, such as phx_..., not the token of a project"
        raise ConfigError("personal_key", key, expected, secret=True)
    return Secret(key, "personal_key")
