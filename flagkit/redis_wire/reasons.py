"""Why Redis could not be spoken to: one word and one sentence for everything redis-py raises.

redis-py's own messages repeat addresses and whatever a server says, so they go nowhere; who catches them asks here.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final

from redis import exceptions

from flagkit.errors import FetchError

_SENTENCES: Final = {
    "auth": "refuses the user name, the password or the command",
    "bad_response": "does not answer as Redis does",
    "deadline": "no complete answer within the deadline",
    "dns": "the host name cannot be resolved",
    "full": "has no memory left",
    "insecure_node": "the cluster names a node beyond loopback, to be spoken to in the clear",
    "loading": "is still loading its data",
    "read_only": "is a replica, which takes nothing",
    "refused": "connection refused",
    "refused_command": "refuses the command, or under the key is something of another kind",
    "reset": "the connection was closed",
    "tls": "no trusted TLS connection; the certificate, its name or its dates are wrong (ca_file= says whom to trust)",
    "unsettled": "the cluster is moving these keys or looking for who has them",
}
_LASTING: Final = frozenset({"auth", "insecure_node", "refused_command", "tls"})

#: The first row that fits names the failure. Then it is asked what made the connection fail.
_ANSWERS: Final[tuple[tuple[tuple[type[BaseException], ...], str], ...]] = (
    ((exceptions.BusyLoadingError,), "loading"),
    ((exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError), "auth"),
    ((exceptions.ReadOnlyError,), "read_only"),
    ((exceptions.OutOfMemoryError,), "full"),
    ((exceptions.AskError, exceptions.TryAgainError, exceptions.ClusterError), "unsettled"),
    ((exceptions.ResponseError,), "refused_command"),
    ((exceptions.InvalidResponse,), "bad_response"),
)
_CAUSES: Final[tuple[tuple[tuple[type[BaseException], ...], str], ...]] = (
    ((socket.gaierror,), "dns"),
    ((ssl.SSLError,), "tls"),
    ((TimeoutError, exceptions.TimeoutError), "deadline"),
    ((ConnectionRefusedError,), "refused"),
)


#: What a node of a cluster says; before redis-py knew these, plain refusals that begin with the word.
_UNSETTLED: Final = ("ASK ", "CLUSTERDOWN ", "MASTERDOWN ", "TRYAGAIN ")
_MOVED: Final = "MOVED "


def moved_to(refusal: BaseException) -> tuple[int, str, int] | None:
    """The slot that is elsewhere, and the host ("": the one that says so) and port that have it; None: it is another
    refusal.

    Raises: ValueError when it cannot be read.
    """
    text = str(refusal)
    if isinstance(refusal, exceptions.MovedError):
        return refusal.slot_id, refusal.host.strip("[]"), refusal.port
    if not text.startswith(_MOVED):
        return None
    slot, address = text.removeprefix(_MOVED).split(" ")
    host, port = address.rsplit(":", 1)
    return int(slot), host.strip("[]"), int(port)


def reason_of(error: BaseException) -> str:
    """One word for what redis-py or the network raised."""
    if isinstance(error, exceptions.ResponseError) and str(error).startswith(_UNSETTLED):
        return "unsettled"
    for kinds, reason in _ANSWERS:
        if isinstance(error, kinds):
            return reason
    while True:
        for kinds, reason in _CAUSES:
            if isinstance(error, kinds):
                return reason
        inner = error.__cause__ or error.__context__
        if inner is None:
            return "reset"
        error = inner


def failure(name: str, reason: str) -> FetchError:
    return FetchError(reason, f"{name}: {_SENTENCES[reason]}", lasting=reason in _LASTING)
