"""The flags that each dialect's are held against, in the native format: the same meaning, at the native price."""

from __future__ import annotations

from typing import Any

#: What the variants of ``multivariate`` serve.
COLOURS = {name: {"colour": name, "size": 7} for name in "abcd"}


def natives(op: str = "semver_greater_or_equal", version: str = "2.3.0") -> dict[str, Any]:
    """Flags of the four kinds that are timed. ``op`` and ``version``: how ``targeting`` asks for an app's version."""
    when = [
        {"attribute": "country", "op": "in", "values": ["SE", "NO", "DK", "FI"]},
        {"attribute": "plan", "op": "in", "values": ["pro"]},
        {"attribute": "email", "op": "ends_with", "values": ["@example.com"]},
        {"attribute": "app_version", "op": op, "values": [version]},
    ]
    return {
        "simple": {"default": "on"},
        "rollout": {"rules": [{"rollout": {"percent": 50}, "serve": "on"}]},
        "targeting": {"rules": [{"when": when, "rollout": {"percent": 25}, "serve": "on"}]},
        "multivariate": {
            "variants": COLOURS,
            "off": "a",
            "rules": [{"split": [{"variant": name, "weight": 25} for name in COLOURS]}],
        },
    }
