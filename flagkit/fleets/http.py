"""A fleet through a flagkit service, which judges: counts go there by POST, words come back.

Owns the body and what counts as an answer; ``Wire`` moves the bytes. What the service rolls back it writes into the
definitions it serves, so that a verdict arrives with the next change that is streamed; this answer has it as well.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any, Final

from flagkit.errors import FetchError
from flagkit.fleets.fleet import Judge, Report, Trial, Word
from flagkit.http import NoReply, Wire

_PATH: Final = "/v1/guards"
_MAX_WORDS_BYTES: Final = 4 * 1024 * 1024
_MAX_WORD: Final = 4096
_GZIP_WBITS: Final = 31
_PASSING: Final = frozenset({408, 425, 429})


class Http:
    """A fleet through a service.

    Args:
        url: its address without path, ``https://flags.example.com``, or, with a path, the endpoint itself. https (http
            on loopback), no user name, query or fragment.
        key: a key that may write events, sent as ``Authorization: Bearer``.
        ca_file: PEM file of certificates trusted in addition to the public ones.
        allow_insecure_http: allow http beyond loopback, in the clear.

    Raises: ConfigError naming the field.
    """

    def __init__(
        self, url: str, *, key: str | None = None, ca_file: str | None = None, allow_insecure_http: bool = False
    ) -> None:
        self._wire = Wire(url, _PATH, key=key, ca_file=ca_file, allow_insecure_http=allow_insecure_http)
        self.name = self._wire.url

    def __repr__(self) -> str:
        return f"fleets.Http({self.name!r})"

    def exchange(
        self,
        process: str,
        sequence: int,
        reports: Sequence[Report],
        judge: Judge,  # noqa: ARG002 - the service judges
        *,
        deadline_s: float,
    ) -> Sequence[Word]:
        """See ``Fleet``."""
        told = [
            {**report.trial._asdict(), "policy": report.policy, "counted": base64.b64encode(report.counted).decode()}
            for report in reports
        ]
        body = json.dumps({"process": process, "sequence": sequence, "reports": told}, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        try:
            reply = self._wire.post(
                zlib.compress(body, 1, _GZIP_WBITS), headers, deadline_s=deadline_s, max_bytes=_MAX_WORDS_BYTES
            )
        except NoReply as error:
            raise FetchError(error.reason, f"{self.name}: {error}", lasting=error.lasting) from None
        if reply.status != 200:
            lasting = 400 <= reply.status < 500 and reply.status not in _PASSING
            raise FetchError(
                f"http_{reply.status}",
                f"{self.name}: answered with status {reply.status}",
                retry_after_s=reply.retry_after_s,
                lasting=lasting,
            )
        words = _words(reply.body)
        if words is None:
            raise FetchError("not_words", f"{self.name}: the answer is none of a flagkit service")
        asked = {report.trial for report in reports}
        return [word for word in words if word.trial in asked]

    def close(self) -> None:
        self._wire.close()

    def after_fork(self) -> None:
        self._wire.after_fork()


def _words(body: bytes) -> list[Word] | None:
    """The words in an answer; None when it is no answer to this."""
    try:
        said: Any = json.loads(body)["words"]
        words = []
        for each in said:
            trial = Trial(str(each["environment"]), str(each["flag"]), int(each["revision"]), str(each["candidate"]))
            words.append(Word(trial, str(each["word"])[:_MAX_WORD]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return words
