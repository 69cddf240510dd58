"""Encryption of secrets at rest: authenticated, with key rotation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class SealingError(Exception):
    """The keys in CREDENTIALS_KEYS are malformed, or none of them opens a stored secret."""


class Sealer:
    """Seals with the first key and opens with any, so a new key can be put first while old rows are still read."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise SealingError("CREDENTIALS_KEYS is empty; generate a key with: payment-cli generate-key")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise SealingError(
                "CREDENTIALS_KEYS holds no 32 url-safe base64 bytes; make a key with: payment-cli generate-key"
            ) from None

    def seal(self, secret: str) -> bytes:
        """Encrypt text for a column."""
        return self._fernet.encrypt(secret.encode())

    def open(self, sealed: bytes) -> str:
        """Decrypt a column. Raises SealingError when no key fits."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise SealingError("no key in CREDENTIALS_KEYS opens this secret; was a key removed too early?") from None

    def rotate(self, sealed: bytes) -> bytes:
        """Encrypt again under the first key."""
        try:
            return self._fernet.rotate(sealed)
        except InvalidToken:
            raise SealingError("no key in CREDENTIALS_KEYS opens this secret; was a key removed too early?") from None

    def seal_mapping(self, secrets: Mapping[str, str]) -> bytes:
        """Encrypt named secrets as one value."""
        return self.seal(json.dumps(dict(secrets)))

    def open_mapping(self, sealed: bytes) -> dict[str, str]:
        """The reverse of `seal_mapping`."""
        return {str(name): str(value) for name, value in json.loads(self.open(sealed)).items()}
