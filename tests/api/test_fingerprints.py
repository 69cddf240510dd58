"""When two requests under one idempotency key are one: one function, for every route that takes a key, for ever."""

from __future__ import annotations

import ast
import json
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, create_model

from api.app import V1, create_app
from api.idempotency import fingerprint_of
from api.payments import NewPayment
from api.refunds import NewRefund
from domain.idempotency import VERSION, is_repeat
from domain.money import Money

ROOT = Path(__file__).parents[2]
RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "fingerprints.json").read_text())
"""Bodies and what they were in the first release. None is ever made anew: a retry may come after a deploy."""
ROUTES = {
    f"POST {route.path}": route
    for module in V1
    for route in module.router.routes
    if isinstance(route, APIRoute) and any(one.alias == "Idempotency-Key" for one in route.dependant.header_params)
}


def body_of(route: str, body: dict[str, Any]) -> BaseModel:
    """A body as its route understands it."""
    field = ROUTES[route].body_field
    assert field is not None
    shape: Any = field.field_info.annotation
    read: BaseModel = TypeAdapter(shape).validate_python(body)
    return read


def of(one: dict[str, Any], **changes: Any) -> str:
    return fingerprint_of(one["route"], body_of(one["route"], one["body"] | changes), **one["path"]).hex()


@pytest.mark.parametrize("one", RECORDED, ids=[f"{one['route']} {len(one['body'])}" for one in RECORDED])
def test_recorded_requests_keep_their_fingerprints(one: dict[str, Any]) -> None:
    assert of(one) == one["fingerprint"]
    assert bytes.fromhex(one["fingerprint"])[:1] == VERSION


def test_every_route_with_a_key_is_recorded_and_no_two_requests_are_one() -> None:
    app = create_app(nullcontext)  # type: ignore[arg-type]  # not started
    with_key = {
        f"POST {path.removeprefix('/api/v1')}"
        for path, every in app.openapi()["paths"].items()
        if any(one["name"].lower() == "idempotency-key" for one in every.get("post", {}).get("parameters", []))
    }
    assert with_key == set(ROUTES) == {one["route"] for one in RECORDED}
    assert len({one["fingerprint"] for one in RECORDED}) == len(RECORDED)


@pytest.mark.parametrize("one", RECORDED, ids=[f"{one['route']} {len(one['body'])}" for one in RECORDED])
def test_what_is_not_given_and_what_is_given_as_the_default_is_the_same(one: dict[str, Any]) -> None:
    body = body_of(one["route"], one["body"])
    explicit = json.loads(body.model_dump_json()) | one["body"]
    assert of(one, **explicit) == one["fingerprint"]


@pytest.mark.parametrize("one", RECORDED, ids=[f"{one['route']} {len(one['body'])}" for one in RECORDED])
def test_an_optional_field_that_comes_later_changes_no_request_of_before(one: dict[str, Any]) -> None:
    body = body_of(one["route"], one["body"])
    later = create_model(
        type(body).__name__, __base__=type(body), tip=(str | None, None), note=(dict[str, str], {}), fast=(bool, False)
    )
    same, other = later.model_validate(one["body"]), later.model_validate(one["body"] | {"tip": "1.00"})
    assert fingerprint_of(one["route"], same, **one["path"]).hex() == one["fingerprint"]
    assert fingerprint_of(one["route"], other, **one["path"]).hex() != one["fingerprint"]


@pytest.mark.parametrize("one", RECORDED, ids=[f"{one['route']} {len(one['body'])}" for one in RECORDED])
def test_every_field_that_says_something_counts_and_so_do_route_and_path(one: dict[str, Any]) -> None:
    body = body_of(one["route"], one["body"])
    for name, field in type(body).model_fields.items():
        if name in one["body"] and not field.is_required() and one["body"][name] != field.get_default():
            less = {key: value for key, value in one["body"].items() if key != name}
            try:
                smaller = body_of(one["route"], less)
            except ValueError:
                continue  # this one needs that one
            changed = fingerprint_of(one["route"], smaller, **one["path"]).hex() != one["fingerprint"]
            assert changed or getattr(smaller, name) == getattr(body, name), name
    assert fingerprint_of(f"{one['route']}/other", body, **one["path"]).hex() != one["fingerprint"]
    for name in one["path"]:
        elsewhere = one["path"] | {name: "018f6f0e-8f7c-7a3e-9c1b-000000000000"}
        assert fingerprint_of(one["route"], body, **elsewhere).hex() != one["fingerprint"]


@given(
    st.integers(0, 10**12),
    st.integers(0, 10**12),
    st.sampled_from(["ILS", "USD", "KWD", "JPY", "COP"]),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_two_spellings_are_one_request_exactly_when_they_are_one_amount(
    first: int, second: int, currency: str, less: int, more: int
) -> None:
    def spelled(minor: int, cut: int) -> tuple[Money, str]:
        text = str(money := Money(minor, currency))
        for _ in range(cut):
            text = text[:-1] if "." in text and text.endswith("0") else text
        return money, text.removesuffix(".")

    (one, text), (other, again) = spelled(first, less), spelled(second if second % 3 else first, more)
    prints = [
        fingerprint_of("POST /payments", NewPayment(amount=amount, currency=currency, order_id="A"))
        for amount in (text, again)
        if Money.parse(amount, currency).minor > 0
    ]
    refunds = [
        fingerprint_of(
            "POST /refunds", body_of("POST /refunds", {"payment_id": RECORDED[3]["body"]["payment_id"]} | it)
        )
        for it in ({"amount": text}, {"amount": again})
    ]
    assert len(set(prints)) <= 1 or one != other
    assert (refunds[0] == refunds[1]) == (one == other)


@given(st.integers(0, 4_000_000_000), st.integers(-720, 720), st.integers(-720, 720))
def test_one_moment_is_one_request_in_every_zone(second: int, here: int, there: int) -> None:
    moment = datetime.fromtimestamp(second, timezone(timedelta(minutes=here)))
    prints = {
        fingerprint_of("POST /payouts", body_of("POST /payouts", {"cut_off": text}))
        for text in (moment.isoformat(), moment.astimezone(timezone(timedelta(minutes=there))).isoformat())
    }
    assert len(prints) == 1


@pytest.mark.parametrize(
    ("route", "one", "same"),
    [
        ("POST /api-keys", {"name": "a", "scopes": ["x", "y"]}, {"name": " a ", "scopes": ["y", "x", "y"]}),
        (
            "POST /workspaces",
            {"slug": "abc", "currency": "ILS", "name": "A", "vat_rate": "0.18"},
            {"vat_rate": "0.180"},
        ),
        ("POST /workspaces", {"slug": "abc", "currency": "ILS", "name": "A"}, {"commission_minimum": "1"}),
        ("POST /payments", {"amount": "5", "currency": "ILS", "order_id": "A"}, {"amount": "5.00", "metadata": {}}),
        (
            "POST /payments",
            {"amount": "5", "currency": "ILS", "order_id": "A", "success_url": "https://shop.example"},
            {"success_url": "https://SHOP.example:443/"},
        ),
        (
            "POST /payments",
            {"amount": "5", "currency": "ILS", "order_id": "A", "customer": {"ip": "2001:db8::1"}},
            {"customer": {"ip": "2001:0db8:0::1", "name": None}},
        ),
        (
            "POST /provider-accounts",
            {"provider": "stripe", "credentials": {"secret_key": "sk_1", "webhook_secret": "whsec_1"}},
            {"credentials": {"webhook_secret": " whsec_1\n", "secret_key": "sk_1 "}},
        ),
        ("POST /refunds", {"payment_id": RECORDED[3]["body"]["payment_id"]}, {"amount": None, "reason": None}),
    ],
)
def test_what_means_the_same_is_the_same(route: str, one: dict[str, Any], same: dict[str, Any]) -> None:
    assert fingerprint_of(route, body_of(route, one)) == fingerprint_of(route, body_of(route, one | same))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"metadata": {"a": "1"}}, {"metadata": {"a": "1.0"}}),
        ({"order_id": "1.0"}, {"order_id": "1.00"}),
        ({"customer": {"id": "1"}}, {"customer": {"name": "1"}}),
        ({"expires_in_seconds": 60}, {"expires_in_seconds": 61}),
        ({"checkout_mode": False}, {"checkout_mode": True}),
        ({"description": "a"}, {"description": "A"}),
    ],
)
def test_what_is_no_amount_is_compared_letter_by_letter(one: dict[str, Any], other: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"amount": "5.00", "currency": "ILS", "order_id": "A"}
    prints = {fingerprint_of("POST /payments", body_of("POST /payments", usual | each)) for each in (one, other)}
    assert len(prints) == 2


def test_an_amount_with_a_million_zeros_is_not_written_out() -> None:
    body = NewRefund.model_validate({"payment_id": RECORDED[3]["body"]["payment_id"], "amount": "1e99999999"})
    assert len(fingerprint_of("POST /refunds", body)) == 33


def test_a_fingerprint_of_another_version_counts_as_a_repeat() -> None:
    known = bytes.fromhex(RECORDED[0]["fingerprint"])
    assert is_repeat(known, known)
    assert not is_repeat(bytes.fromhex(RECORDED[1]["fingerprint"]), known)
    assert is_repeat(b"\x00" + known[1:], known)
    assert is_repeat(known[1:], known), "of before there were versions"
    assert is_repeat(None, known)


HASHES_OF_OTHER_THINGS = {
    "activities/payouts.py: hashlib.sha256(content)",  # files
    "api/settlement_files.py: hashlib.sha256(content)",
    "api/context.py: hashlib.sha256(key.encode())",  # API keys
    "api/docs.py: hashlib.sha256(script.encode())",  # what a browser may run
    "api/pages.py: hashlib.sha256(SUBMIT.encode())",
    "api/strangers.py: hashlib.blake2b(name.encode(errors='surrogatepass'), digest_size=16)",  # who is counted
}


def test_no_route_makes_a_fingerprint_by_itself() -> None:
    """Where the API or a command hashes, or compares the fingerprint of a request without the rule."""
    found = []
    for path in sorted([*ROOT.glob("api/*.py"), *ROOT.glob("cli/*.py"), *ROOT.glob("activities/*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            hashes = isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                ("sha256", "blake2b", "md5", "sha1")
            )
            defines = isinstance(node, ast.FunctionDef) and node.name in ("fingerprint", "_fingerprint")
            compares = isinstance(node, ast.Compare) and any(
                isinstance(side, ast.Attribute) and side.attr == "fingerprint" and not isinstance(other, ast.Constant)
                for side, other in zip([node.left, *node.comparators], [*node.comparators, node.left], strict=True)
            )
            if hashes or defines or compares:
                found.append(f"{path.relative_to(ROOT)}: {ast.unparse(node).splitlines()[0]}")
    assert set(found) - HASHES_OF_OTHER_THINGS == set()
