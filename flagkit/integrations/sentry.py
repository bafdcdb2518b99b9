"""Decisions as Sentry's feature-flag context (extra ``sentry``): an error report says which flags the request had met.

Owns what a decision is called there: Sentry knows flags as true or false. It keeps the last 100 of a request itself,
and puts the first ones on the current span.

Source: ``sentry_sdk.feature_flags``, which Sentry's own integrations of other flag libraries call.
"""

from __future__ import annotations

from typing import Final

from sentry_sdk.feature_flags import add_feature_flag
from sentry_sdk.integrations import Integration

from flagkit.client import Client
from flagkit.context import Context
from flagkit.decision import Decision
from flagkit.errors import ConfigError
from flagkit.integrations.answers import follow

_PLAIN: Final = ("on", "off")


class FlagkitIntegration(Integration):
    """For ``sentry_sdk.init``:

        sentry_sdk.init(dsn, integrations=[FlagkitIntegration(client)])

    From then on every flag that the application asks ``client`` for, or that a gate goes by, is in Sentry's reports of
    what happens later in the same request: as ``new-checkout: true`` when it is enabled, else false; a variant that is
    called neither on nor off is there too, as ``max-items:many: true``. No unit and no attribute goes to Sentry. See
    ``flagkit.integrations.answers.follow`` for what counts as asked.

    Raises: ConfigError when ``client`` is none.
    """

    identifier = "flagkit"

    def __init__(self, client: Client) -> None:
        if not isinstance(client, Client):
            raise ConfigError("client", client, "a flagkit.Client")
        follow(client, _note)

    @staticmethod
    def setup_once() -> None:
        """Nothing: it is the client that is followed."""


def _note(decision: Decision, _: Context) -> None:
    if decision.variant is None:
        return
    add_feature_flag(decision.flag, decision.enabled)
    if decision.variant not in _PLAIN:
        add_feature_flag(f"{decision.flag}:{decision.variant}", True)
