"""Definitions from PostHog, for deciding its flags in this process (dialect ``posthog``).

Owns the address and the two keys; what statuses mean is ``sources.Http``'s business. A key that is revoked (401), a
quota that is used up (402, or a 200 that says so, which the dialect refuses) and everything else that is not a good
document leave the definitions in use as they are, where PostHog's own libraries forget theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagkit.errors import ConfigError
from flagkit.http import Wire
from flagkit.http.posthog import CLOUD, address, checked_key, checked_token
from flagkit.sources.http import Http

if TYPE_CHECKING:
    from flagkit.sources.posthog_remote import PostHogDecider

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
        remote_fallback: have PostHog asked, by a background thread, about flags that cannot be decided in this process:
            who asks gets the usual answer at once, and PostHog's as soon as it is there. The unit, its properties and
            groups are then sent to PostHog. Off unless you say so.
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
        remote_fallback: bool = False,
        ca_file: str | None = None,
        allow_insecure_http: bool = False,
    ) -> None:
        from urllib.parse import quote  # see Http's address: not at import

        project = checked_token(project_token)
        token = project.reveal()
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

        #: See ``Source``.
        self.decider: PostHogDecider | None = None
        if type(remote_fallback) is not bool:
            raise ConfigError("remote_fallback", remote_fallback, "True or False")
        if remote_fallback:
            from flagkit.sources.posthog_remote import PostHogDecider  # few want it

            self.decider = PostHogDecider(host, project, ca_file=ca_file, allow_insecure_http=allow_insecure_http)

    def close(self) -> None:
        super().close()
        if self.decider is not None:
            self.decider.close()

    def after_fork(self) -> None:
        super().after_fork()
        if self.decider is not None:
            self.decider.after_fork()

    def __repr__(self) -> str:
        return f"sources.PostHog({self.name!r})"
