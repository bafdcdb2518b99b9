"""PostHog's own answers: ``POST /flags/?v=2``, for flags that cannot be decided in this process.

Owns the request and what its answer means; knows nothing of contexts, which the dialect puts into words, and not when
to ask, which the runtime decides. Made by ``sources.PostHog(remote_fallback=True)``, and by nobody else.

Source: PostHog's server (rust/feature-flags, api/types.rs), posthog.com/docs/api/flags.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from flagkit.boundary import contained
from flagkit.errors import FetchError
from flagkit.http import NoReply, Wire
from flagkit.http.posthog import address
from flagkit.http.secret import Secret
from flagkit.sources.http import refusal
from flagkit.sources.source import Told

_PATH: Final = "/flags/"
_MAX_ANSWER_BYTES: Final = 1024 * 1024
_MAX_TEXT: Final = 200
_HEADERS: Final = {"Content-Type": "application/json"}
_QUOTA: Final = "feature_flags"


class PostHogDecider:
    """See ``Decider``. The project's token travels in the body, and nowhere else."""

    def __init__(self, host: str, token: Secret, *, ca_file: str | None, allow_insecure_http: bool) -> None:
        self._token = token
        self._wire = Wire(
            address(host, _PATH),
            _PATH,
            query="v=2",
            field="host",
            ca_file=ca_file,
            allow_insecure_http=allow_insecure_http,
        )
        self.name = self._wire.url

    def decide(self, question: str, flags: Sequence[str], *, deadline_s: float) -> Mapping[str, Told]:
        """See ``Decider``. A used-up quota is no answer: ``quota_limited``."""
        head = {"api_key": self._token.reveal(), "geoip_disable": True, "flag_keys_to_evaluate": list(flags)}
        body = f"{json.dumps(head)[:-1]}, {question[1:]}".encode()
        try:
            reply = self._wire.post(body, _HEADERS, deadline_s=deadline_s, max_bytes=_MAX_ANSWER_BYTES)
        except NoReply as error:
            raise FetchError(error.reason, str(error), lasting=error.lasting) from None
        if reply.status != 200:
            raise refusal(self.name, reply)
        answer = contained(json.loads, reply.body, otherwise=None)
        if not isinstance(answer, dict):
            raise FetchError("not_json", f"{self.name}: answered with something else than a JSON object")
        limited = answer.get("quotaLimited")
        if isinstance(limited, list) and _QUOTA in limited:
            raise FetchError(
                "quota_limited", f"{self.name}: the quota of feature flag requests is used up", lasting=True
            )
        answers = answer.get("flags")
        if not isinstance(answers, dict):
            raise FetchError("no_flags", f"{self.name}: answered without flags, as servers before v=2 do")
        about = {"request_id": _text(answer.get("requestId")), "evaluated_at": _number(answer.get("evaluatedAt"))}
        return {flag: told for flag in flags if (told := _told(answers.get(flag), about)) is not None}

    def close(self) -> None:
        self._wire.close()

    def after_fork(self) -> None:
        self._wire.after_fork()


def _told(answer: Any, about: Mapping[str, str | int | None]) -> Told | None:
    """One flag's answer; None when there is none, or the server could not decide either."""
    enabled = answer.get("enabled") if isinstance(answer, dict) else None
    if not isinstance(enabled, bool) or answer.get("failed") is True:
        return None
    variant = answer.get("variant")
    known, said = _object(answer.get("metadata")), _object(answer.get("reason"))
    facts = {
        "remote": True,
        "id": _number(known.get("id")),
        "version": _number(known.get("version")),
        "has_experiment": known["has_experiment"] if isinstance(known.get("has_experiment"), bool) else None,
        "reason": _text(said.get("description")) or _text(said.get("code")),
        **about,
    }
    name = variant if enabled and isinstance(variant, str) else "true" if enabled else "false"
    return Told(name, enabled, {fact: value for fact, value in facts.items() if value is not None})


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_TEXT and value.isprintable() else None


def _number(value: Any) -> int | None:
    return value if type(value) is int and abs(value) < 1 << 53 else None
