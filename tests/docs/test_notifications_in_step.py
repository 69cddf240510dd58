"""Every notification that the code can send is documented with an example, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import jsonschema

from api.app import create_app
from api.notifications import HEADERS, document
from domain.dispute import DisputeState
from domain.notifications import NOTIFICATIONS, example_of
from domain.payment import PaymentStatus
from domain.payout import PayoutStatus
from domain.setup import SETUP_OPEN, SetupStatus
from domain.subscription import SubscriptionStatus

ROOT = Path(__file__).parents[2]
FAMILIES = ("payment", "refund", "dispute", "risk_alert", "credit", "subscription", "payout", "payment_method_setup")
NAME = re.compile(rf"(?:{'|'.join(FAMILIES)})\.[a-z_]*[a-z]")
SENDERS = {"tell", "_tell", "add_notice", "add_notice_once", "add_lone_notice", "add_subscription_notice"}
MADE_OF_A_STATUS: dict[str, set[str]] = {
    "payment.": {one.value for one in PaymentStatus} - {"created"},
    "dispute.": {one.value for one in DisputeState},
    "risk_alert.": {"raised", "closed"},
    "payout.": {one.value for one in PayoutStatus} - {"requested"},
    "payment_method_setup.": {one.value for one in SetupStatus} - {one.value for one in SETUP_OPEN},
    "subscription.": set(),  # what activities.billing.tell is given, see below
}
"""Types that are written with a status in them, by what stands before it."""
ENDS_OF_SUBSCRIPTIONS = {SubscriptionStatus.CANCELLED.value, SubscriptionStatus.EXPIRED.value}


def trees() -> Iterator[tuple[str, ast.Module]]:
    for folder in ("activities", "api", "dispatch", "storage"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def sent() -> tuple[set[str], set[str]]:
    """Types that stand in calls of senders, and what stands before a status in those that are put together."""
    whole, begun = set[str](), set[str]()
    for path, tree in trees():
        waits = [node for node in ast.walk(tree) if isinstance(node, ast.Dict) and path == "activities/payouts.py"]
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and called(node) in SENDERS]
        for node in (inner for one in [*calls, *waits] for inner in ast.walk(one)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
                whole.add(node.value)
            if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                start = str(node.values[0].value)
                if start.removesuffix(".") in FAMILIES:
                    begun.add(start)
    return whole, begun


def of_subscriptions() -> set[str]:
    """The second argument of `billing.tell`, or what the name there was set to."""
    found = set(ENDS_OF_SUBSCRIPTIONS)
    for path, tree in trees():
        if not path.startswith("activities/") or "subscription" not in (ROOT / path).read_text():
            continue
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)):
            for node in (one for one in ast.walk(function) if isinstance(one, ast.Call) and called(one) == "tell"):
                if len(node.args) < 2 or not any(one.arg == "key" for one in node.keywords):
                    continue
                words = [node.args[1]]
                if isinstance(node.args[1], ast.Name):
                    named = node.args[1].id
                    words = [
                        one.value
                        for one in ast.walk(function)
                        if isinstance(one, ast.Assign) and getattr(one.targets[0], "id", "") == named
                    ]
                found |= {
                    word.value
                    for one in words
                    for word in ast.walk(one)
                    if isinstance(word, ast.Constant) and isinstance(word.value, str)
                    if word.value not in ("first", "change")  # kinds of invoices that are asked for there
                }
    return {f"subscription.{word}" for word in found}


def test_every_type_that_the_code_can_send_is_documented_and_no_other() -> None:
    whole, begun = sent()
    assert begun == set(MADE_OF_A_STATUS)
    together = {f"{start}{status}" for start, every in MADE_OF_A_STATUS.items() for status in every}
    can_be_sent = whole | together | of_subscriptions()
    assert can_be_sent == set(NOTIFICATIONS), can_be_sent ^ set(NOTIFICATIONS)


def test_the_document_has_every_type_with_its_example() -> None:
    text = (ROOT / "docs/notifications.md").read_text()
    assert document() in text, "write it with: python -m api.notifications"
    assert re.findall(r"^### `([a-z_.]+)`$", text, re.MULTILINE) == list(NOTIFICATIONS)
    assert all(f"{name}:" in text for name in HEADERS)


def test_the_description_of_the_api_has_every_type_as_a_webhook() -> None:
    described = create_app(nullcontext).openapi()["webhooks"]  # type: ignore[arg-type]  # not started
    assert list(described) == list(NOTIFICATIONS)
    for kind, of in described.items():
        content = of["post"]["requestBody"]["content"]["application/json"]
        assert content["example"] == example_of(kind)
        jsonschema.validate(content["example"], content["schema"])
        assert [one["name"] for one in of["post"]["parameters"]] == list(HEADERS)
    names = [of["post"]["operationId"] for of in described.values()]
    assert len(set(names)) == len(names)
