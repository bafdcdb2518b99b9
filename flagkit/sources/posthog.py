"""Definitions from PostHog, for deciding its flags in this process (dialect ``posthog``).

Owns the address and the two keys; what statuses mean is ``sources.Http``'s business. A key that is revoked (401), a
quota that is used up (402, or a 200 that says so, which the dialect refuses) and everything else that is not a good
document leave the definitions in use as they are, where PostHog's own libraries forget theirs.
"""

from __future__ import annotations

from flagkit.http import Wire
from flagkit.http.posthog import CLOUD, address, checked_key, checked_token
from flagkit.sources.http import Http

_PATH = "/flags/definitions"


class PostHog(Http):
    """Definitions by conditional GET of ``/flags/definitions``.

        Client(source=sources.PostHog(project_token="phc_...", personal_key=os.environ["POSTHOG_KEY"]))

    Args:
        host: PostHog's address; https (http on loopback), no user name, query or fragment. PostHog Cloud's own names
            (``https://eu.posthog.com``) become those that serve libraries.
        project_token: of the project, ``phc_...``.
        personal_key: a personal API key with the scope ``feature_flag:read``, or the project's secret key; sent as
            ``Authorization: Bearer`` to this scheme, host and port only.
        ca_file: PEM file of certificates trusted in addition to the public ones.
        allow_insecure_http: allow http beyond loopback, in the clear.

    Raises: ConfigError naming the field, without the value of either key.
    """

    def __init__(
        self,
        host: str = CLOUD,
        *,
        project_token: str,
        personal_key: str,
        ca_file: str | None = None,
        allow_insecure_http: bool = False,
    ) -> None:
        from urllib.parse import quote  # see Http's address: not at import

        token = checked_token(project_token).reveal()
        self._speak(
            "posthog",
            Wire(
                address(host, _PATH),
                _PATH,
                key=checked_key(personal_key),
                query=f"token={quote(token, safe='')}&send_cohorts",
                field="host",
                ca_file=ca_file,
                allow_insecure_http=allow_insecure_http,
            ),
        )

    def __repr__(self) -> str:
        return f"sources.PostHog({self.name!r})"
