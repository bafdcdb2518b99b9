"""``GrowthBook``: definitions from GrowthBook's API or CDN, or from a GrowthBook Proxy.

Owns the address of an SDK connection, and takes the encryption off what it sends, so that whoever reads the document
need not know of it. ``Http`` does the asking; what the features mean is the dialect's business.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from flagkit.errors import ConfigError, FetchError
from flagkit.sources.decryption import Decryption
from flagkit.sources.http import Http
from flagkit.sources.source import Answer, Fetched

_CLIENT_KEY: Final = re.compile(r"[A-Za-z0-9._-]{1,200}", re.ASCII).fullmatch
#: What is encrypted -> what it is then.
_SEALED: Final = {"encryptedFeatures": "features", "encryptedSavedGroups": "savedGroups"}


class GrowthBook:
    """Features of one SDK connection, by conditional GET of ``{api_host}/api/features/{client_key}``.

    Args:
        api_host: address of the API, such as ``https://cdn.growthbook.io``; of a self-hosted one or a proxy, with the
            path it is under, if any. https (http on loopback), no user name, query or fragment.
        client_key: of the SDK connection (``sdk-...``). It is part of the address, as GrowthBook has it, and shown with
            it: it names the connection and is no secret (browsers have it).
        decryption_key: of an SDK connection with encryption; needs the extra ``growthbook``. A secret.
        ca_file: PEM file of certificates trusted in addition to the public ones.
        allow_insecure_http: allow http beyond loopback, in the clear.

    Raises: ConfigError naming the field.
    """

    local = False
    dialect = "growthbook"

    def __init__(
        self,
        api_host: str = "https://cdn.growthbook.io",
        *,
        client_key: str,
        decryption_key: str | None = None,
        ca_file: str | None = None,
        allow_insecure_http: bool = False,
    ) -> None:
        if not isinstance(client_key, str) or not _CLIENT_KEY(client_key) or not client_key.strip("."):
            # Perhaps a secret that was taken for it: not shown.
            raise ConfigError("client_key", client_key, "the client key of an SDK connection (sdk-...)", secret=True)
        if client_key.startswith("secret_"):
            raise ConfigError("client_key", client_key, "a client key (sdk-...), not a secret API key", secret=True)
        if not isinstance(api_host, str):
            raise ConfigError("api_host", api_host, "an address such as https://cdn.growthbook.io")
        self._decryption = None if decryption_key is None else Decryption(decryption_key)
        self._http = _http(api_host, client_key, ca_file, allow_insecure_http=allow_insecure_http)
        self.name = self._http.name

    def __repr__(self) -> str:
        return f"sources.GrowthBook({self.name!r})"

    @property
    def identity(self) -> str:
        """See ``Source``."""
        identity = self._http.identity
        return identity if self._decryption is None else f"{identity}#{self._decryption.digest}"

    def fetch(self, validator: str | None, *, deadline_s: float, max_bytes: int) -> Answer:
        """See ``Source``. What comes encrypted is handed on decrypted."""
        answer = self._http.fetch(validator, deadline_s=deadline_s, max_bytes=max_bytes)
        if isinstance(answer, Fetched) and any(b'"%s"' % field.encode() in answer.data for field in _SEALED):
            return answer._replace(data=self._opened(answer.data))
        return answer

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def after_fork(self) -> None:
        """Forget the parent's connection."""
        self._http.after_fork()

    def _opened(self, data: bytes) -> bytes:
        """A document without encryption. One that cannot be read as a document is handed on as it is."""
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return data
        sealed = {
            field: document[field] for field in _SEALED if isinstance(document, dict) and _is_sealed(document, field)
        }
        if not sealed:
            return data
        if self._decryption is None:
            raise self._failure("encrypted", "the features are encrypted, and no decryption_key was given")
        opened = {}
        for field, encrypted in sealed.items():
            try:
                opened[_SEALED[field]] = self._decryption.text(encrypted)
            except ValueError:
                opened.clear()
                break
        if not opened:  # outside the handler, so that nothing of it is in the context
            raise self._failure("undecryptable", "the features cannot be decrypted with this decryption_key")
        rest = {key: value for key, value in document.items() if key not in _SEALED and key not in opened}
        members = [f"{json.dumps(key)}:{json.dumps(value)}" for key, value in rest.items()]
        members += [f'"{section}":{text}' for section, text in opened.items()]
        return ("{" + ",".join(members) + "}").encode()

    def _failure(self, reason: str, sentence: str) -> FetchError:
        return FetchError(reason, f"{self.name}: {sentence}", lasting=True)


def _is_sealed(document: dict[str, Any], field: str) -> bool:
    return isinstance(document[field], str) and bool(document[field]) if field in document else False


def _http(api_host: str, client_key: str, ca_file: str | None, *, allow_insecure_http: bool) -> Http:
    try:
        return Http(
            f"{api_host.rstrip('/')}/api/features/{client_key}",
            dialect=GrowthBook.dialect,
            ca_file=ca_file,
            allow_insecure_http=allow_insecure_http,
        )
    except ConfigError as error:
        if error.field != "url":
            raise
        failure = error
    # Named as the argument is; the address may have been put together from anything, and is not shown.
    expected = str(failure).rpartition("; expected ")[2]
    raise ConfigError("api_host", api_host, expected, secret=True)
