"""Nothing secret or personal in a log; nothing readable in a workflow history."""

from __future__ import annotations

import base64

import pytest
from temporalio.api.common.v1 import Payload

from engine.client import TemporalTarget, data_converter
from engine.codec import AesGcmCodec, CodecKeyError
from logs import MASK, redact
from storage.sealing import Sealer, SealingError
from tests.support.service import CREDENTIALS_KEY

ONE, TWO = (f"{name}:{base64.b64encode(name.encode() * 8).decode()}" for name in ("key1", "key2"))


@pytest.mark.parametrize(
    "secret",
    [
        "dp_live_abcdefgh1234",
        "sk_test_51abc",
        "whsec_abc123+/=",
        "dana@example.com",
        "4242 4242 4242 4242",
        "postgresql://user:hunter2@host/db",
    ],
)
def test_secrets_in_texts_are_masked(secret: str) -> None:
    shown = redact(None, "info", {"event": f"failed with {secret} there"})["event"]
    assert secret not in shown
    assert MASK in shown


def test_the_token_in_a_callback_address_is_masked() -> None:
    path = "/api/v1/webhooks/meshulam/018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79/"
    shown = redact(None, "info", {"event": f"POST https://pay.example{path}k3pOq7_x?y=1", "path": f"{path}k3pOq7_x"})
    assert shown == {"event": f"POST https://pay.example{path}{MASK}?y=1", "path": f"{path}{MASK}"}
    assert redact(None, "info", {"path": path[:-1]}) == {"path": path[:-1]}


def test_fields_are_masked_by_name() -> None:
    shown = redact(None, "info", {"event": "x", "api_key": "short", "customer_email": 1, "amount": "1.00"})
    assert shown == {"event": "x", "api_key": MASK, "customer_email": MASK, "amount": "1.00"}


async def test_payloads_are_sealed_and_keys_rotate() -> None:
    old, new = AesGcmCodec([ONE]), AesGcmCodec([TWO, ONE])
    payload = Payload(metadata={"encoding": b"json/plain"}, data=b'"order-77"')
    sealed = (await old.encode([payload]))[0]
    assert b"order-77" not in sealed.SerializeToString()
    assert (await new.decode([sealed]))[0] == payload
    assert (await new.decode([payload]))[0] == payload
    with pytest.raises(CodecKeyError, match="no longer holds"):
        await old.decode(await new.encode([payload]))
    sealed.data = sealed.data[:-1] + bytes([sealed.data[-1] ^ 1])
    with pytest.raises(CodecKeyError, match="changed"):
        await new.decode([sealed])


@pytest.mark.parametrize("keys", [[], ["a:notbase64!"], ["a:QUJD"]])
def test_malformed_codec_keys_are_named(keys: list[str]) -> None:
    with pytest.raises(CodecKeyError):
        AesGcmCodec(keys)


async def test_the_converter_seals_our_types() -> None:
    converter = data_converter([ONE])
    sealed = await converter.encode(["hello"])
    assert b"hello" not in sealed[0].data
    assert await converter.decode(sealed, [str]) == ["hello"]


def test_tls_is_on_with_an_api_key(tmp_path: object) -> None:
    assert TemporalTarget("a").tls() is False
    assert TemporalTarget("a", api_key="k").tls() is True


def test_sealing_and_its_faults() -> None:
    sealer = Sealer([CREDENTIALS_KEY])
    sealed = sealer.seal_mapping({"secret_key": "sk_test_1"})
    assert sealer.open_mapping(sealed) == {"secret_key": "sk_test_1"}
    assert sealer.open_mapping(sealer.rotate(sealed)) == {"secret_key": "sk_test_1"}
    for keys in ([], ["nonsense"]):
        with pytest.raises(SealingError):
            Sealer(keys)
    with pytest.raises(SealingError, match="no key"):
        sealer.open(b"gAAAAA")
    with pytest.raises(SealingError, match="no key"):
        sealer.rotate(b"gAAAAA")
