"""This installation: Python, libraries, extras, and what the environment says that flagkit does not listen to."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from typing import Final

from flagkit import __version__
from flagkit.cli.doctor.finding import Finding, ok

_LIBRARIES: Final = ("requests", "urllib3", "mmh3")
#: Extra -> the modules it brings.
_EXTRAS: Final = {
    "cli": ("click", "jsonschema"),
    "server": ("starlette", "uvicorn"),
    "regex": ("re2",),
    "redis": ("redis",),
    "openfeature": ("openfeature",),
    "otel": ("opentelemetry",),
}
_PROXIES: Final = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_AUTHORITIES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


def examine(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Raises: nothing."""
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES)
    yield ok("python", f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}")
    yield ok("libraries", f"flagkit {__version__}, {libraries}")
    there = {extra: all(find_spec(module) for module in modules) for extra, modules in _EXTRAS.items()}
    missing = [extra for extra, found in there.items() if not found]
    installed = ", ".join(extra for extra, found in there.items() if found) or "none"
    yield ok("extras", f"installed: {installed}" + (f"; not installed: {', '.join(missing)}" if missing else ""))
    for names, remedy in (
        (_PROXIES, "clients go through no proxy"),
        (_AUTHORITIES, "clients take the file as ca_file="),
    ):
        found = [name for name in names if environment.get(name)]
        if found:
            yield ok("environment", f"{', '.join(found)} set, and not read: {remedy}")
