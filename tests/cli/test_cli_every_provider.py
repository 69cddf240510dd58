"""Signatures of all six providers by the command, against the examples that their documents print."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import cli
from providers.registry import PROVIDERS
from tests.cli.running import NOTHING_SET, Operator
from tests.providers.payers import payer_class
from tests.support.service import Service, Shop

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("payment-cli")

PAYU_KEY, MERCHANT = "4Vj8eK4rloUd272L48hsrarnUA", "508029"
WOMPI_EVENTS = "prod_events_OcHnIzeBl5socpwByQ4hA52Em3USQ93Z"
PAYPLUS_BODY = b'{"transaction":{"uid":"t-1","status_code":"000","amount":10.5}}'
STRIPE_BODY = b'{"id":"evt_test_webhook","object":"event"}'
STRIPE_SIGNATURE = "t=1700000000,v1=d95c6b7477fbd7e9f90b1b0ef5f9c7ac25abca5382460e0d988c2b2a5b71b990"
AT = 1_790_000_000
MESHULAM_BODY = b"data[processId]=7&data[processToken]=process-token-1&data[statusCode]=2&data[transactionId]=8"


@dataclass(frozen=True)
class Said:
    """One finished command."""

    code: int
    out: str
    err: str


def payment_cli(*arguments: object, typed: bytes = b"") -> Said:
    """The command without any setting."""
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=typed, env=NOTHING_SET)
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return Said(done.exit_code, done.stdout, done.stderr)


async def installed(*arguments: object, typed: bytes = b"") -> Said:
    """The command as it is installed, in a process of its own and without any setting."""
    surroundings = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    process = await asyncio.create_subprocess_exec(
        str(COMMAND),
        *(str(argument) for argument in arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=surroundings | {"PYTHONPATH": str(ROOT)},
        cwd="/",
    )
    out, err = await asyncio.wait_for(process.communicate(typed), 60)
    assert process.returncode is not None
    return Said(process.returncode, out.decode(), err.decode())


def fields(**values: str) -> list[str]:
    return [part for name, value in values.items() for part in ("--field", f"{name}={value}")]


def payu(reference: str, value: str, currency: str = "COP", **more: str) -> list[str]:
    return fields(merchant_id=MERCHANT, reference=reference, value=value, currency=currency, **more)


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


SIGNED: list[tuple[str, str, str, list[str], str]] = [
    # provider, kind, secret, further arguments, digest
    ("payu", "request", PAYU_KEY, payu("TestPayU", "20000"), "7ee7cf808ce6a39b17481c54f2c57acc"),
    (
        "payu",
        "request",
        PAYU_KEY,
        [*payu("TestPayU", "20000"), "--algorithm", "sha1"],
        "fa890d3f94e12b5cdb62e8771453b99b78e7ccdc",
    ),
    (
        "payu",
        "request",
        PAYU_KEY,
        [*payu("TestPayU", "20000"), "--algorithm", "SHA-256"],
        "af3899a22336b79db46006491d15813158826f944599bf3bf601e2327f898022",
    ),
    (
        "payu",
        "request",
        PAYU_KEY,
        [*payu("TestPayU", "20000"), "--algorithm", "hmac-sha256"],
        "eaf61598d5593b366086c9a00aa5746ccad1a6e9b209a1a242fce224202b2b36",
    ),
    (
        "payu",
        "request",
        PAYU_KEY,
        [*payu("TestPayU", "20000"), "--algorithm", "hmac-sha256", "--hmac-key", "secret123"],
        "9b269405c01c725fcc5d1667a2e1166a810fd34b5a5ac82295d0f59fddf1c472",
    ),
    (
        "payu",
        "request",
        PAYU_KEY,
        payu("PRODUCT_TEST_2021-06-23T19:59:43.229Z", "65000"),
        "1d6c33aed575c4974ad5c0be7c6a1c87",
    ),
    ("payu", "request", PAYU_KEY, payu("TestPayU", "3", "USD"), "ba9ffa71559580175585e45ce70b6c37"),
    (
        "payu",
        "response",
        PAYU_KEY,
        payu("TestPayU04", "150.34", "USD", state="6"),
        "779f163be9347a691bcdb25064644795",
    ),
    (
        "payu",
        "response",
        PAYU_KEY,
        [*payu("PayUTest01", "150.34", "USD", state="6"), "--algorithm", "hmac-sha256", "--hmac-key", "test123"],
        "50c8aae35caf923fbdbd791d7842b916ab7d6597b7c4032dd92ab67b7bb43e8a",
    ),
    (
        "payu",
        "response",
        PAYU_KEY,
        payu("20/12/2017 14:50:52", "300.00", "ARS", state="4"),
        "f51dd97bfd35dc707ff90fa450d87aa8",
    ),
    (
        "wompi",
        "integrity",
        "prod_integrity_Z5mMke9x0k8gpErbDqwrJXMqsI6SFli6",
        fields(reference="sk8-438k4-xmxm392-sn2m", amount_in_cents="2490000", currency="COP"),
        "37c8407747e595535433ef8f6a811d853cd943046624a0ec04662b17bbf33bf5",
    ),
    (
        "wompi",
        "integrity",
        "test_integrity_key",
        fields(reference="ref-123", amount_in_cents="2490000", currency="COP"),
        "3020531ed7879230f3ed79e981eda23c5efcd8ce2da4576876ca16f783224e54",
    ),
]


BY_THE_RULE: list[tuple[str, str, str, list[str], str]] = [
    *(
        ("payu", "response", "k", payu("r", value, state="4"), md5(f"k~{MERCHANT}~r~{signed}~COP~4"))
        for value, signed in (("150.25", "150.2"), ("150.35", "150.4"), ("150.34", "150.3"), ("20000", "20000.0"))
    ),
    *(
        ("payu", "confirmation", "k", payu("r", value, state="4"), md5(f"k~{MERCHANT}~r~{signed}~COP~4"))
        for value, signed in (("150.00", "150.0"), ("150.50", "150.5"), ("150.25", "150.25"), ("20000", "20000.0"))
    ),
    (
        "wompi",
        "integrity",
        "key",
        fields(reference="r", amount_in_cents="2490000", currency="COP", expiration="2023-06-09T20:28:50.000Z"),
        hashlib.sha256(b"r2490000COP2023-06-09T20:28:50.000Zkey").hexdigest(),
    ),
]
"""For which no example is printed."""


@pytest.mark.parametrize(("provider", "kind", "secret", "arguments", "digest"), SIGNED)
def test_a_request_is_signed_as_its_providers_example(
    provider: str, kind: str, secret: str, arguments: list[str], digest: str
) -> None:
    said = payment_cli("sign", provider, kind, "--secret", secret, *arguments)
    assert said == Said(0, f"{digest}\n", "")


@pytest.mark.parametrize(("provider", "kind", "secret", "arguments", "digest"), BY_THE_RULE)
async def test_a_request_is_signed_by_its_providers_rule(
    nobody: Operator, provider: str, kind: str, secret: str, arguments: list[str], digest: str
) -> None:
    assert (await nobody("sign", provider, kind, "--secret", secret, *arguments)).stdout == f"{digest}\n"


def wompi_event(checksum: str, **transaction: Any) -> bytes:
    return json.dumps(
        {
            "event": "transaction.updated",
            "data": {"transaction": {"id": "01-123", "status": "APPROVED", "amount_in_cents": 4950000} | transaction},
            "environment": "prod",
            "signature": {
                "properties": ["transaction.id", "transaction.status", "transaction.amount_in_cents"],
                "checksum": checksum,
            },
            "timestamp": 1530291411,
        }
    ).encode()


WOMPI_CHECKSUM = "71601cac483195b4577030556a566645f0536a28dd5c0ea2bd16d4cd01ebcf31"
PAYU_CONFIRMATION = (
    f"merchant_id={MERCHANT}&reference_sale=TestPayU&value=150.00&currency=COP&state_pol=4"
    f"&sign={md5(f'{PAYU_KEY}~{MERCHANT}~TestPayU~150.0~COP~4')}"
).encode()
EFECTY_BODY = b'{"agreement":"110954","reference":"1","amount":"25000"}'
EFECTY_DIGEST = hmac.new(b"callback-secret-1", f"{AT}.".encode() + EFECTY_BODY, hashlib.sha256).hexdigest()
EFECTY_HEADERS = [f"X-Efecty-Timestamp: {AT}", f"X-Efecty-Signature: {EFECTY_DIGEST}"]
PAYVALIDA = json.dumps(
    {
        "po_id": "1",
        "status": "approved",
        "amount": "1",
        "pv_checksum": hashlib.sha256(b"1approvedcallback-secret-1").hexdigest(),
    }
).encode()

GOOD: list[tuple[str, str, list[str], bytes, int, str]] = [
    # provider, secret, arguments, body, time, string that was signed
    (
        "stripe",
        "whsec_test_secret",
        ["--header", f"Stripe-Signature: {STRIPE_SIGNATURE}"],
        STRIPE_BODY,
        1700000000,
        f"1700000000.{STRIPE_BODY.decode()}",
    ),
    (
        "payplus",
        "payplus_test_secret",
        ["--header", "hash: ZAb20sKirtldk6akrtjdOtTjIe7SD+tyCgOBfLgP+rQ="],
        PAYPLUS_BODY,
        AT,
        PAYPLUS_BODY.decode(),
    ),
    ("payu", PAYU_KEY, [], PAYU_CONFIRMATION, AT, f"***~{MERCHANT}~TestPayU~150.0~COP~4"),
    ("wompi", WOMPI_EVENTS, [], wompi_event(WOMPI_CHECKSUM), 1530291411, "01-123APPROVED49500001530291411***"),
    (
        "wompi",
        WOMPI_EVENTS,
        ["--header", f"X-Event-Checksum: {WOMPI_CHECKSUM.upper()}"],
        wompi_event(WOMPI_CHECKSUM.upper()),
        1530291411,
        "01-123APPROVED49500001530291411***",
    ),
    (
        "efecty",
        "callback-secret-1",
        [part for header in EFECTY_HEADERS for part in ("--header", header)],
        EFECTY_BODY,
        AT,
        f"{AT}.{EFECTY_BODY.decode()}",
    ),
    ("efecty", "callback-secret-1", ["--algorithm", "payvalida"], PAYVALIDA, AT, "1approved***"),
]


@pytest.mark.parametrize(("provider", "secret", "arguments", "body", "at", "signed"), GOOD)
def test_a_callback_of_each_provider_is_checked_and_explained(
    provider: str, secret: str, arguments: list[str], body: bytes, at: int, signed: str
) -> None:
    rest = ["--at", str(at), "--body", "-", *arguments, "--explain"]
    check = ("verify-webhook", provider, "--secret")
    explained = payment_cli(*check, secret, *rest, typed=body)
    refused = payment_cli(*check, "another", *rest, typed=body)
    changed = payment_cli(*check, secret, *rest, typed=changed_body(body))
    assert explained == Said(0, f"valid\nsigned string: {signed}\n", "")
    assert secret not in explained.out
    for said, hidden in ((refused, "another"), (changed, secret)):
        assert (said.code, said.out.startswith("invalid: bad_signature"), said.err) == (1, True, "")
        assert hidden not in said.out


def changed_body(body: bytes) -> bytes:
    """What is signed of it says something else."""
    for before, after in (
        (b"approved", b"cancelled"),
        (b"APPROVED", b"DECLINED"),
        (b"value=15", b"value=16"),
        (b'"amount":10.5', b'"amount":11.5'),
    ):
        if before in body:
            return body.replace(before, after)
    return body.replace(b"{", b"{ ", 1)


@pytest.mark.parametrize(
    ("secret", "body"),
    [
        # what the documents print beside their rule does not follow from it
        (
            WOMPI_EVENTS,
            wompi_event(
                "3476DDA50F64CD7CBD160689640506FEBEA93239BC524FC0469B2C68A3CC8BD0",
                id="1234-1610641025-49201",
                amount_in_cents=4490000,
            ),
        ),
        # what a reader would take that skips paths which are missing
        (
            "test_events_key",
            json.dumps(
                json.loads(wompi_event("311fcd0072d0bfba1bdf8c158b38703a1487d7f4866feb2d391eceb7636ffe88"))
                | {"data": {"transaction": {"status": "APPROVED"}}}
            ).encode(),
        ),
    ],
)
def test_wompis_two_traps_are_refused(secret: str, body: bytes) -> None:
    said = payment_cli("verify-webhook", "wompi", "--secret", secret, "--at", "1530291411", "--body", "-", typed=body)
    assert (said.code, said.out.startswith("invalid: bad_signature")) == (1, True)


async def test_a_callback_is_signed_for_those_that_sign_in_a_header() -> None:
    made = await asyncio.gather(
        installed("sign", "stripe", "webhook", "--secret", "whsec_test_secret", "--at", 1700000000,
                          "--body", "-", typed=STRIPE_BODY),
        installed("sign", "payplus", "webhook", "--secret", "payplus_test_secret", "--body", "-",
                          typed=PAYPLUS_BODY),
        installed("sign", "wompi", "webhook", "--secret", WOMPI_EVENTS, "--body", "-",
                          typed=wompi_event(WOMPI_CHECKSUM)),
        installed("sign", "efecty", "webhook", "--secret", "callback-secret-1", "--at", AT, "--body", "-",
                          typed=EFECTY_BODY),
    )  # fmt: skip
    expected = [
        STRIPE_SIGNATURE,
        "ZAb20sKirtldk6akrtjdOtTjIe7SD+tyCgOBfLgP+rQ=",
        WOMPI_CHECKSUM,
        "\n".join(header.lower() for header in EFECTY_HEADERS),
    ]
    assert list(made) == [Said(0, f"{digest}\n", "") for digest in expected]


@pytest.mark.parametrize(
    ("provider", "says"), [("meshulam", "signs nothing"), ("payu", "sign the kind `confirmation`")]
)
def test_where_no_header_can_be_made_it_says_why(provider: str, says: str) -> None:
    said = payment_cli("sign", provider, "webhook", "--secret", "hush-hush", "--body", "-", typed=b"{}")
    assert (said.code, said.out) == (2, "")
    assert says in said.err
    assert "hush-hush" not in said.err


def test_meshulams_callbacks_are_never_called_valid() -> None:
    check = ["verify-webhook", "meshulam", "--secret", "hush-hush-token", "--body", "-", "--explain"]
    said = payment_cli(*check, typed=MESHULAM_BODY)
    assert (said.code, said.err) == (1, "")
    assert said.out.startswith("invalid: Meshulam signs nothing")
    assert "has a process id and a process token to compare" in said.out
    for secret in ("hush-hush-token", "process-token-1"):
        assert secret not in said.out


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
@pytest.mark.parametrize("body", [b"", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 50_000, b"1" * 200_000])
async def test_no_body_breaks_the_command(nobody: Operator, provider: str, body: bytes) -> None:
    arguments = ["verify-webhook", provider, "--secret", "hush-hush", "--body", "-"]
    said = await nobody(*arguments, code=1, typed=body)
    assert (said.stdout.startswith("invalid: "), said.stdout.count("\n"), said.stderr) == (True, 1, "")


OPTIONS: dict[str, dict[str, tuple[str, Any]]] = {
    # name: as it is typed, and what is stored
    "stripe": {},
    "payplus": {
        "terminal_uid": ('"20260101"', "20260101"),
        "send_email_approval": ("true", True),
        "closed_descriptions": ('["page is closed"]', ["page is closed"]),
    },
    "meshulam": {"link_minutes": ("60", 60)},
    "payu": {
        "limits": ('{"efecty": {"minimum": "30000"}}', {"efecty": {"minimum": "30000"}}),
        "payer_optional": ("true", True),
        "signature_algorithm": ("md5", "md5"),
    },
    "wompi": {"event_max_age_seconds": ("300", 300), "transactions_key": ("public", "public")},
    "efecty": {
        "code_length": ("14", 14),
        "minimum_amount": ("5000", 5000),
        "maximum_amount": ("900000.00", "900000.00"),
    },
}
TOLD_BY_CHECK = {
    "stripe": "can take payments",
    "payplus": "payment methods",
    "meshulam": "the page code is known",
    "payu": "account 512321",
    "wompi": "Comercio de prueba (test) can take payments",
    "efecty": "pay a first code to be sure",
}
SECRET = {"secret_key", "webhook_secret", "api_key", "api_login", "private_key", "integrity_secret", "events_secret"}
SECRET |= {"callback_secret", "page_code"}
WRONG = {
    "stripe": "http_401",
    "payplus": "payplus refused: ",
    "meshulam": "wrong_user_id_or_page_code",
    "payu": "invalid_credentials",
    "wompi": "unknown_public_key",
    "efecty": "credential_invalid: agreement",
}


def creation(shop: Shop, credentials: dict[str, str], options: dict[str, str]) -> list[str]:
    given = [part for name, value in credentials.items() for part in ("--credential", f"{name}={value}")]
    chosen = [part for name, value in options.items() for part in ("--option", f"{name}={value}")]
    provider = shop.till.payer.name
    return ["account", "create", "--workspace", shop.workspace.slug, "--provider", provider, "--name", "by-hand",
            *given, *chosen]  # fmt: skip


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
async def test_an_account_is_connected_checked_and_pays(operator: Operator, service: Service, provider: str) -> None:
    shop = await service.shop(provider)
    config = payer_class(provider)(service.sandbox_url).account()
    credentials = {name: it for name, it in config.credentials.items() if name != "callback_token"}  # that is made
    operator.hidden |= {it for name, it in credentials.items() if name in SECRET}
    typed = {name: json.dumps(value) if value is not str(value) else value for name, value in config.options.items()}
    typed |= {name: written for name, (written, _) in OPTIONS[provider].items()}
    shown = (await operator(*creation(shop, dict(credentials), typed))).stdout
    (made,) = [row for row in (await operator("account", "list", "--json")).json if row["id"] in shown]
    assert f"https://pay.example/api/v1/webhooks/{provider}/{made['id']}" in shown.replace("\n", "")
    assert made["options"] == {**config.options, **{name: stored for name, (_, stored) in OPTIONS[provider].items()}}
    checked = (await operator("account", "check", made["id"])).stdout
    assert checked.startswith(f"{provider}: ")
    assert "(test)" in checked
    assert TOLD_BY_CHECK[provider] in checked
    asked = shop.order(provider_account_id=made["id"])
    paying = await shop.api.post("/payments", json=asked)
    assert (paying.status_code, paying.json()["provider_account_id"]) == (201, made["id"]), paying.text
    wrong = payer_class(provider)(service.sandbox_url).wrong_account().credentials
    given = [part for name, value in wrong.items() for part in ("--credential", f"{name}={value}")]
    await operator("account", "replace-credentials", made["id"], *given)
    assert WRONG[provider] in await operator.says("account", "check", made["id"])
    await shop.aclose()


@pytest.mark.parametrize(
    ("provider", "options", "says"),
    [
        ("payplus", {"terminal_uid": "20260101"}, "option_invalid: terminal_uid. A text that looks like a number"),
        ("payplus", {"environment": "live"}, "option_invalid: environment"),
        ("meshulam", {"link_minutes": "ten"}, "link_minutes is a whole number from 1 to 1440"),
        ("payu", {"test": "yes"}, "option_invalid: test"),
        ("payu", {"limits": "{"}, "option_invalid: limits"),
        ("wompi", {"checkout_base": "checkout.wompi.co"}, "option_invalid: checkout_base"),
        ("efecty", {"code_prefix": "12"}, "option_invalid: code_prefix"),
        ("stripe", {"api_base": "https://x.example/?key=1"}, "option_invalid: api_base"),
    ],
)
async def test_an_option_that_cannot_work_is_named_when_it_is_typed(
    operator: Operator, service: Service, provider: str, options: dict[str, str], says: str
) -> None:
    shop = await service.shop(provider)
    credentials = dict(payer_class(provider)(service.sandbox_url).account().credentials)
    assert says in await operator.says(*creation(shop, credentials, options), code=2)
    rows = (await operator("account", "list", "--json")).json
    assert [row["name"] for row in rows if row["workspace"] == str(shop.workspace.id)] == ["test"]
    await shop.aclose()
