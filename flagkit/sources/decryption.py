"""AES-128-CBC with PKCS #7 padding, as GrowthBook encrypts what it sends.

It keeps a document from whoever has the address but not the key; it does not prove who wrote it, which is what TLS is
for. The package ``cryptography`` (extra ``growthbook``) is imported when a key is given and not before. Called by the
source ``GrowthBook``.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Final

from flagkit.errors import ConfigError
from flagkit.http.secret import Secret

_KEY_BYTES: Final = 16


class Decryption:
    """Decrypts with one key.

    Args: key, 16 bytes in base64. field: the argument it came in as, for the error.
    Raises: ConfigError naming the field, without the key; also when ``cryptography`` is not installed.
    """

    __slots__ = ("_key",)

    def __init__(self, key: object, field: str = "decryption_key") -> None:
        self._key = Secret(key, field)
        try:
            bad = len(_decoded(self._key.reveal())) != _KEY_BYTES
        except ValueError:
            bad = True
        if bad:
            raise ConfigError(field, key, "16 bytes in base64, as GrowthBook shows it", secret=True)
        try:
            # Now and not in the poller's thread: a fork in the middle of an import may leave a child that hangs in it.
            import cryptography.hazmat.primitives.ciphers
            import cryptography.hazmat.primitives.padding  # noqa: F401
        except ImportError:
            raise ConfigError(field, key, "the extra flagkit[growthbook] to be installed", secret=True) from None

    def __repr__(self) -> str:
        return f"Decryption({self._key!r})"

    @property
    def digest(self) -> str:
        """Six hex digits that tell two keys apart."""
        return self._key.digest

    def text(self, encrypted: str) -> str:
        """What ``iv.ciphertext``, both in base64, says. Raises: ValueError, and nothing else: it is not readable."""
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        from cryptography.hazmat.primitives.padding import PKCS7

        start, _, sealed = encrypted.partition(".")
        key = _decoded(self._key.reveal())
        decryptor = Cipher(algorithms.AES128(key), modes.CBC(_decoded(start))).decryptor()
        unpadder = PKCS7(128).unpadder()
        padded = decryptor.update(_decoded(sealed)) + decryptor.finalize()
        opened: bytes = unpadder.update(padded) + unpadder.finalize()
        return opened.decode()


def decrypt(encrypted: str, key: str) -> str:
    """``decrypt`` of GrowthBook's specification. Raises: ValueError (ConfigError for the key): it is not readable."""
    return Decryption(key).text(encrypted)


def _decoded(text: str) -> bytes:
    return b64decode(text, validate=True)
