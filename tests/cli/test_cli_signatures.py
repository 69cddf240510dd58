"""`sign` and `verify-webhook`: by hand, without a database and without settings."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from pathlib import Path

import pytest

from providers.registry import WEBHOOK_TOOLS
from tests.cli.running import Operator
from tests.support.service import Shop

SECRET = "whsec_cli_0123456789abcdef"
BODY = b'{"id": "evt_1", "object": "event", "type": "ping", "note": "whsec_cli_0123456789abcdef"}'
AT = 1_800_000_000


def header(body: bytes = BODY, *, at: int = AT, secret: str = SECRET) -> str:
    """The scheme, written down once more: not by the code that is tested."""
    return f"t={at},v1={hmac.new(secret.encode(), f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"


@pytest.fixture
def body(tmp_path: Path) -> Path:
    path = tmp_path / "body.json"
    path.write_bytes(BODY)
    return path


@pytest.fixture
def signer(nobody: Operator) -> Operator:
    nobody.hidden.add(SECRET)
    return nobody


def verify(body: Path | str, *headers: str, at: int | None = AT, secret: str = SECRET) -> list[object]:
    named = [part for value in headers for part in ("--header", value)]
    moment = [] if at is None else ["--at", at]
    return ["verify-webhook", "stripe", "--secret", secret, *named, *moment, "--body", body]


async def test_sign_prints_the_header_and_nothing_else(signer: Operator, body: Path) -> None:
    done = await signer("sign", "stripe", "webhook", "--secret", SECRET, "--at", AT, "--body", body)
    assert done.stdout == header() + "\n"


async def test_what_is_signed_now_is_valid_now(signer: Operator, body: Path) -> None:
    before = int(time.time())
    made = (await signer("sign", "stripe", "webhook", "--secret", SECRET, "--body", body)).stdout.strip()
    assert before <= int(made.partition(",")[0].removeprefix("t=")) <= time.time()
    assert (await signer(*verify(body, f"Stripe-Signature: {made}", at=None))).stdout == "valid\n"


async def test_the_api_takes_a_callback_signed_by_hand(signer: Operator, shop: Shop) -> None:
    for secret, status in ((shop.hook_secret, 200), (SECRET, 400)):
        made = await signer("sign", "stripe", "webhook", "--secret", secret, "--body", "-", typed=BODY)
        answer = await shop.service.http.post(
            shop.hook_url, content=BODY, headers={"stripe-signature": made.stdout.strip()}
        )
        assert answer.status_code == status


@pytest.mark.parametrize("name", ["Stripe-Signature", "stripe-signature", " STRIPE-SIGNATURE "])
async def test_a_good_callback_is_valid_however_its_header_is_written(signer: Operator, body: Path, name: str) -> None:
    assert (await signer(*verify(body, f"{name}:  {header()} ", "x-other: 1"))).stdout == "valid\n"


async def test_the_body_may_come_from_standard_input_and_one_of_two_secrets_suffices(signer: Operator) -> None:
    arguments = verify("-", f"stripe-signature: {header()}", secret=f"whsec_new,{SECRET}")
    assert (await signer(*arguments, typed=BODY)).stdout == "valid\n"


@pytest.mark.parametrize(
    ("headers", "changes", "why"),
    [
        ([f"stripe-signature: {header()}"], {"secret": "whsec_another"}, "bad_signature: no signature matches"),
        ([f"stripe-signature: {header(BODY + b' ')}"], {}, "bad_signature: no signature matches"),
        ([], {}, "bad_signature: no Stripe-Signature header"),
        (["stripe-signature: v1=00"], {}, "bad_signature: Stripe-Signature header has no readable timestamp"),
        ([f"stripe-signature: {header()}"], {"at": AT + 301}, "stale_timestamp: 301 s old, 300 s allowed"),
        ([f"stripe-signature: {header()}"], {"at": AT - 61}, "future_timestamp: 61 s ahead, 60 s allowed"),
        ([f"stripe-signature: {header(at=int(time.time()) - 3600)}"], {"at": None}, "stale_timestamp: 3600 s old"),
    ],
)
async def test_a_bad_callback_says_why_and_exits_with_1(
    signer: Operator, body: Path, headers: list[str], changes: dict[str, object], why: str
) -> None:
    done = await signer(*verify(body, *headers, **changes), code=1)  # type: ignore[arg-type]
    if "3600" in why:  # the clock goes on since the tests were collected
        age = re.fullmatch(r"invalid: stale_timestamp: (\d+) s old, 300 s allowed\n", done.stdout)
        assert age is not None
        assert int(age.group(1)) >= 3600
    else:
        assert done.stdout == f"invalid: {why}\n"
    assert done.stderr == ""


@pytest.mark.parametrize(("secret", "code", "first"), [(SECRET, 0, "valid"), ("whsec_another", 1, "invalid: bad_s")])
async def test_explain_shows_what_was_signed_without_the_secret(
    nobody: Operator, body: Path, secret: str, code: int, first: str
) -> None:
    nobody.hidden.add(secret)
    done = await nobody(*verify(body, f"stripe-signature: {header()}", secret=secret), "--explain", code=code)
    verdict, signed = done.stdout.splitlines()
    assert verdict.startswith(first)
    assert signed == f"signed string: {AT}.{BODY.decode()}".replace(secret, "***")


async def test_explain_without_a_header_has_nothing_to_show(signer: Operator, body: Path) -> None:
    done = await signer(*verify(body), "--explain", code=1)
    assert done.stdout.splitlines() == ["invalid: bad_signature: no Stripe-Signature header", "signed string: "]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{}" * 100_000])
async def test_any_body_gets_a_verdict(signer: Operator, content: bytes) -> None:
    good = verify("-", f"stripe-signature: {header(content)}")
    if content != b"\xff\xfe":  # what is not UTF-8 is never an event
        assert (await signer(*good, typed=content)).stdout == "valid\n"
    assert (await signer(*good, typed=content + b"x", code=1)).stdout.startswith("invalid: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify-webhook", "nobody", "--secret", "s", "--body", "-"], "there is no provider nobody; known: "),
        (["verify-webhook", "stripe", "--secret", "s", "--body", "/nonexistent/body"], "No such file"),
        (["verify-webhook", "stripe", "--secret", "s"], "Missing option '--body'"),
        (["verify-webhook", "stripe", "--body", "-"], "Missing option '--secret'"),
        (["verify-webhook", "stripe", "--secret", "s", "--header", "no colon", "--body", "-"], "'Name: value'"),
        (["verify-webhook", "stripe", "--secret", "s", "--at", "soon", "--body", "-"], "'soon' is not a valid integer"),
        (["verify-webhook", "stripe", "--secret", "s", "--at", 10**30, "--body", "-"], "not in the range"),
        (["sign", "nobody", "webhook", "--secret", "s"], "there is no provider nobody; known: "),
        (["sign", "stripe", "refund", "--secret", "s"], "stripe has no signature 'refund'; known: webhook"),
        (["sign", "stripe", "webhook", "--secret", "s"], "takes --body FILE, not --field"),
        (
            ["sign", "stripe", "webhook", "--secret", "s", "--field", "a=b", "--body", "-"],
            "takes --body FILE, not --field",
        ),
        (["sign", "stripe", "webhook", "--secret", "s", "--at", -1, "--body", "-"], "not in the range"),
    ],
)
async def test_wrong_use_is_told_from_a_bad_callback(nobody: Operator, arguments: list[str], message: str) -> None:
    assert message in await nobody.says(*arguments, code=2)


async def test_a_body_that_is_no_text_is_not_signed(signer: Operator) -> None:
    arguments = ["sign", "stripe", "webhook", "--secret", SECRET, "--body", "-"]
    assert "not UTF-8" in await signer.says(*arguments, code=2, typed=b"\xff\xfe")


PAYU = ["merchant_id=508029", "reference=TestPayU", "currency=COP"]
WOMPI = ["reference=sk8-438k4-xmxm392-sn2m", "amount_in_cents=2490000", "currency=COP"]


@pytest.mark.parametrize(
    ("provider", "kind", "fields", "secret", "options", "signature"),
    [
        # the providers' own examples
        (
            "payu",
            "request",
            [*PAYU, "value=20000"],
            "4Vj8eK4rloUd272L48hsrarnUA",
            [],
            "7ee7cf808ce6a39b17481c54f2c57acc",
        ),
        (
            "wompi",
            "integrity",
            WOMPI,
            "prod_integrity_Z5mMke9x0k8gpErbDqwrJXMqsI6SFli6",
            [],
            "37c8407747e595535433ef8f6a811d853cd943046624a0ec04662b17bbf33bf5",
        ),
        (
            "payu",
            "confirmation",
            [*PAYU, "value=150.00", "state=4"],
            "key",
            [],
            # of the amount's two zeros only the last one falls away
            hashlib.md5(b"key~508029~TestPayU~150.0~COP~4", usedforsecurity=False).hexdigest(),
        ),
        (
            "payu",
            "request",
            [*PAYU, "value=150.00"],
            "key",
            ["--algorithm", "hmac-sha256", "--hmac-key", "other"],
            hmac.new(b"other", b"key~508029~TestPayU~150.00~COP", hashlib.sha256).hexdigest(),
        ),
    ],
)
async def test_a_requests_signature_is_of_its_fields_and_the_accounts_choices(
    signer: Operator, provider: str, kind: str, fields: list[str], secret: str, options: list[str], signature: str
) -> None:
    signer.hidden.add(secret)
    given = [part for field in fields for part in ("--field", field)]
    done = await signer("sign", provider, kind, "--secret", secret, *given, *options)
    assert done.stdout == f"{signature}\n"


async def test_a_confirmation_is_checked_with_the_accounts_algorithm(signer: Operator) -> None:
    digest = hashlib.sha256(f"{SECRET}~508029~TestPayU~150.0~COP~4".encode()).hexdigest()
    typed = f"merchant_id=508029&reference_sale=TestPayU&value=150.00&currency=COP&state_pol=4&sign={digest}"
    verify = ["verify-webhook", "payu", "--secret", SECRET, "--body", "-"]
    done = await signer(*verify, "--algorithm", "sha256", "--explain", typed=typed)
    assert done.stdout == "valid\nsigned string: ***~508029~TestPayU~150.0~COP~4\n"
    assert (await signer(*verify, code=1, typed=typed)).stdout.startswith("invalid: bad_signature")


async def test_a_callback_signed_in_several_headers_names_them(signer: Operator) -> None:
    made = await signer("sign", "efecty", "webhook", "--secret", SECRET, "--body", "-", typed=BODY)
    lines = made.stdout.splitlines()
    assert len(lines) == 2
    headers = [part for line in lines for part in ("--header", line)]
    verify = ["verify-webhook", "efecty", "--secret", SECRET, "--body", "-"]
    assert (await signer(*verify, *headers, typed=BODY)).stdout == "valid\n"
    assert (await signer(*verify, *headers, code=1, typed=BODY + b" ")).stdout.startswith("invalid: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["wompi", "integrity", "--field", "reference=1"], "amount_in_cents, currency; unknown: none (fields: ref"),
        (["payu", "request", "--field", "amount=1"], "no such field: amount (fields: merchant_id, reference, value, "),
        (["payu", "request", "--algorithm", "rot13"], "no algorithm 'rot13'; known: md5, "),
        (["payu", "request", "--field", "value"], "--field takes name=value"),
        (["payu", "request", "--field", "value=1", "--field", "value=2"], "--field value is given twice"),
        (["payu", "request", "--body", "-"], "the signature request takes --field, not --body or --at"),
        (["payu", "request", "--at", "1"], "the signature request takes --field, not --body or --at"),
        (["payu", "webhook", "--body", "-"], "sign the kind `confirmation`"),
        (["payu", "invoice"], "payu has no signature 'invoice'; known: confirmation, request, response, webhook"),
    ],
)
async def test_what_cannot_be_signed_says_why(signer: Operator, arguments: list[str], message: str) -> None:
    assert message in await signer.says("sign", *arguments, "--secret", SECRET, code=2)


@pytest.mark.parametrize(("secret", "why"), [("", "empty"), (" ", "empty"), ("\udcff", "not UTF-8 text")])
@pytest.mark.parametrize("provider", sorted(WEBHOOK_TOOLS))
async def test_without_a_secret_nothing_is_signed_and_nothing_is_valid(
    nobody: Operator, provider: str, secret: str, why: str
) -> None:
    sign = ["sign", provider, "webhook", "--secret", secret, "--body", "-"]
    assert f"the secret is {why}" in await nobody.says(*sign, code=2, typed=BODY)
    made = hmac.new(b"", BODY, hashlib.sha256).hexdigest()
    verify = ["verify-webhook", provider, "--secret", secret, "--header", f"hash: {made}", "--body", "-"]
    assert (await nobody(*verify, code=1, typed=BODY)).stdout == f"invalid: the secret is {why}\n"


async def test_the_only_algorithm_may_be_named_as_people_write_it(signer: Operator) -> None:
    sign = ["sign", "wompi", "integrity", "--secret", SECRET]
    given = [part for field in WOMPI for part in ("--field", field)]
    plain = await signer(*sign, *given)
    assert (await signer(*sign, *given, "--algorithm", "SHA-256")).stdout == plain.stdout
    assert "sha256 only" in await signer.says(*sign, *given, "--algorithm", "md5", code=2)
