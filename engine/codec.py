"""Encryption of everything that Temporal stores: AES-256-GCM with rotating keys."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

ENCODING = b"binary/encrypted"
_NONCE_BYTES = 12


class CodecKeyError(Exception):
    """TEMPORAL_CODEC_KEYS is malformed, or lacks the key that a payload was sealed with."""


class AesGcmCodec(PayloadCodec):
    """Seals with the first key, opens with any. Keys are given as `name:base64` of 32 bytes."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Raises CodecKeyError on a malformed key."""
        self._keys: dict[str, AESGCM] = {}
        for item in keys:
            name, _, encoded = item.partition(":")
            try:
                self._keys[name] = AESGCM(base64.b64decode(encoded, validate=True))
            except (ValueError, binascii.Error):
                raise CodecKeyError(
                    "TEMPORAL_CODEC_KEYS takes name:base64 of 32 bytes; make one with: payment-cli generate-codec-key"
                ) from None
        if not self._keys:
            raise CodecKeyError("TEMPORAL_CODEC_KEYS is set but names no key")
        self._current = next(iter(self._keys))

    async def encode(self, payloads: Iterable[Payload]) -> list[Payload]:
        """Seal each payload; the key's name is bound to it as associated data."""
        return [self._seal(payload) for payload in payloads]

    async def decode(self, payloads: Iterable[Payload]) -> list[Payload]:
        """Open what we sealed and pass the rest through. Raises CodecKeyError when the key is gone."""
        return [
            self._open(payload) if payload.metadata.get("encoding") == ENCODING else payload for payload in payloads
        ]

    def _seal(self, payload: Payload) -> Payload:
        nonce, name = os.urandom(_NONCE_BYTES), self._current.encode()
        sealed = self._keys[self._current].encrypt(nonce, payload.SerializeToString(), name)
        return Payload(metadata={"encoding": ENCODING, "encryption-key-id": name}, data=nonce + sealed)

    def _open(self, payload: Payload) -> Payload:
        name = payload.metadata.get("encryption-key-id", b"")
        key = self._keys.get(name.decode(errors="replace"))
        if key is None:
            raise CodecKeyError("a payload was sealed with a key that TEMPORAL_CODEC_KEYS no longer holds")
        try:
            return Payload.FromString(key.decrypt(payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:], name))
        except InvalidTag:
            raise CodecKeyError("a sealed payload was changed, or its key has another value") from None
