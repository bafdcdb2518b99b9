"""Headers of an application's own: names that a request can take, and values that nothing shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from flagkit.errors import ConfigError
from flagkit.http.secret import Secret

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}").fullmatch
#: Without these a request is not what it says it is.
_OURS: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "host"}
    | {"transfer-encoding", "user-agent"}
)


def secret_headers(field: str, headers: object, ours: frozenset[str] = frozenset()) -> dict[str, Secret]:
    """``headers``, name -> value, with their values as secrets; none for None.

    Args: field, the argument they came in as; ours, further names, in lower case, that are not for others to set.
    Raises: ConfigError naming ``field``; no value is shown.
    """
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise ConfigError(field, headers, "a mapping of header names to values", secret=True)
    for name in headers:
        if not isinstance(name, str) or not _NAME(name) or name.lower() in _OURS | ours:
            raise ConfigError(field, name, "the names of headers that are not flagkit's own")
    return {name: Secret(value, field) for name, value in headers.items()}
