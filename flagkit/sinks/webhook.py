"""Alerts to a chat: a POST of JSON as Slack's incoming webhooks take it, with the same in fields for other readers.

Owns the form of the body and what an answer means for a message. The URL is a secret, as whoever has it can write
there: nothing shows it. Not a ``Sink``: it takes no events. ``production.alerts`` decides what is said, and when again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from flagkit.events import Delivered, Rejected, Retry, Sent
from flagkit.http import NoReply, Wire

_VARIABLE: Final = "FLAGKIT_WEBHOOK_URL"
_PASSING: Final = frozenset({408, 425, 429})
_MAX_TEXT: Final = 3000
_MAX_WAIT_S: Final = 3600.0
#: What is markup to Slack: a flag called ``<!channel>`` is to call nobody.
_ESCAPED: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Webhook:
    """Messages by POST to a secret URL.

    Args:
        url: https URL (http on loopback), without user name and fragment; a query is part of it. It is never shown.
        ca_file: PEM file of certificates trusted in addition to the public ones.
        allow_insecure_http: allow http beyond loopback, in the clear.

    Raises: ConfigError naming the field, without the URL.
    """

    def __init__(self, url: str, *, ca_file: str | None = None, allow_insecure_http: bool = False) -> None:
        self._aim(url, "url", ca_file, allow_insecure_http)

    @classmethod
    def from_environment(cls, *, ca_file: str | None = None, allow_insecure_http: bool = False) -> Webhook | None:
        """The webhook whose URL is in ``FLAGKIT_WEBHOOK_URL``; None when that is not set, or empty.

        Raises: ConfigError as the constructor does.
        """
        url = os.environ.get(_VARIABLE)
        if not url:
            return None
        webhook = cls.__new__(cls)
        webhook._aim(url, _VARIABLE, ca_file, allow_insecure_http)
        return webhook

    def _aim(self, url: str, field: str, ca_file: str | None, allow_insecure_http: bool) -> None:
        self._wire = Wire.hidden(url, field, ca_file=ca_file, allow_insecure_http=allow_insecure_http)
        #: For status and logs.
        self.name = f"webhook #{self._wire.identity.rpartition('#')[2]}"

    def __repr__(self) -> str:
        return f"sinks.Webhook({self.name!r})"

    def send(self, text: str, fields: Mapping[str, Any], *, deadline_s: float) -> Sent:
        """Say ``text``, of which the first 3,000 characters are read, and ``fields``, which have a JSON form.

        Returns: ``Delivered`` on any 2xx; ``Retry``; or ``Rejected`` when it will never be taken. Redirects are not
            followed. Raises: nothing.
        """
        body = json.dumps({**fields, "text": text[:_MAX_TEXT].translate(_ESCAPED)}).encode()
        headers = {"Content-Type": "application/json"}
        try:
            reply = self._wire.post(body, headers, deadline_s=deadline_s, max_bytes=0, readable=range(0))
        except NoReply as error:
            return Retry(error.reason, lasting=error.lasting)
        status = reply.status
        if 200 <= status < 300:
            return Delivered()
        if status >= 500 or status in _PASSING:
            return Retry(f"http_{status}", min(reply.retry_after_s or 0.0, _MAX_WAIT_S))
        return Rejected(f"http_{status}")

    def close(self) -> None:
        self._wire.close()

    def after_fork(self) -> None:
        self._wire.after_fork()
