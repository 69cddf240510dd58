"""Tokens at PayPlus: the page that makes one, the charge of one, and what a charge's transactions mean. Pure functions.

From PayPlus's pages: `charge_method` 5 (Token, J2) makes a token and takes nothing; a charge wants terminal, cashier,
`use_token`, the token and `customer_uid`. It has no idempotency key, and its documented free fields are `more_info_1`
to `_5`, so our reference stands in the first (and in `more_info`, should PayPlus echo it: UNCONFIRMED); a charge whose
answer was lost is looked for by both. What the codes below `000` mean is UNCONFIRMED but for `000` itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from domain.payment import PaymentStatus
from domain.setup import SetupStatus
from providers.base import (
    Charged,
    ChargeRequest,
    OutcomeUnknown,
    ProviderDeclined,
    ProviderPayment,
    ProviderRejected,
    ProviderSetup,
    SavedMethod,
    SetupRequest,
)
from providers.payplus.objects import APPROVED, CHARGE, Transaction, read_transaction
from providers.payplus.options import PayPlusAccount
from providers.payplus.refunds import refunded_in, refunds_listed
from providers.payplus.requests import MAX_NAME_LENGTH, addresses, customer_of, language_of, minutes_left
from providers.payplus.wire import CURRENCIES, code_of, id_of, part

MAKE_TOKEN = 5
"""`charge_method` Token (J2)."""
REGULAR_TERMS = 1
SETUP_AMOUNT = Decimal("1.00")
"""A page must have an amount; a J2 takes nothing."""
SEARCHED_BEFORE, SEARCHED_AFTER = timedelta(days=1), timedelta(days=1)
"""Dates of a search, which PayPlus gives without a time zone."""

DECLINES = {
    "001": "restricted_card",
    "002": "stolen_card",
    "003": "call_issuer",
    "004": "generic_decline",
    "006": "incorrect_cvc",
    "036": "expired_card",
}
"""Codes of the Israeli card network in our words. UNCONFIRMED: from a community guide."""


def setup_body(request: SetupRequest, account: PayPlusAccount, now: datetime) -> dict[str, Any]:
    """A page that makes a token. Raises ProviderRejected when its time has passed."""
    if request.currency not in CURRENCIES:
        raise ProviderRejected("currency_not_supported", request.currency)
    body: dict[str, Any] = {
        "payment_page_uid": account.payment_page_uid,
        "charge_method": MAKE_TOKEN,
        "amount": SETUP_AMOUNT,
        "currency_code": account.gbp_code if request.currency == "GBP" else request.currency,
        "create_token": True,
        "initial_invoice": False,
        "sendEmailApproval": False,
        "sendEmailFailure": False,
        "send_failure_callback": True,
        "expiry_datetime": str(minutes_left(request.expires_at, now)),
        "more_info": str(request.reference),
        "unique_request_id": str(request.reference),
        "items": [{"name": request.description[:MAX_NAME_LENGTH], "quantity": 1, "price": SETUP_AMOUNT}],
        "allowed_charge_methods": ["credit-card"],
        "charge_default": "credit-card",
        "hide_other_charge_methods": True,
    }
    body |= addresses(request.success_url, request.cancel_url, request.callback_url) | language_of(request.language)
    if customer := customer_of(request.payer):
        body["customer"] = customer
    return body


def charge_body(request: ChargeRequest, account: PayPlusAccount) -> dict[str, Any]:
    """A charge of a token. Raises ProviderRejected without terminal, cashier or a currency that PayPlus takes."""
    if account.terminal_uid is None or account.cashier_uid is None:
        raise ProviderRejected("option_missing", "terminal_uid and cashier_uid")
    if request.amount.currency not in CURRENCIES:
        raise ProviderRejected("currency_not_supported", request.amount.currency)
    if request.amount.minor <= 0:
        raise ProviderRejected("amount_not_positive")
    body: dict[str, Any] = {
        "terminal_uid": account.terminal_uid,
        "cashier_uid": account.cashier_uid,
        "amount": request.amount.to_decimal(),
        "currency_code": account.gbp_code if request.amount.currency == "GBP" else request.amount.currency,
        "credit_terms": REGULAR_TERMS,
        "use_token": True,
        "token": request.token,
        "more_info": str(request.reference),
        "more_info_1": str(request.reference),
        "more_info_2": request.order_id[:MAX_NAME_LENGTH],
    }
    if request.customer is not None:
        body["customer_uid"] = request.customer
    elif customer := customer_of(request.payer):
        body["customer"] = customer
    if account.initial_invoice is not None:
        body["initial_invoice"] = account.initial_invoice
    return body


def charge_made(data: object) -> Charged:
    """The answer to a charge. Raises ProviderDeclined, or OutcomeUnknown when it does not say what was done."""
    transaction = part(data, "transaction") if isinstance(data, dict) else {}
    uid, code = id_of(transaction.get("uid")), code_of(transaction.get("status_code"))
    if uid is None or code is None:
        raise OutcomeUnknown("unreadable_answer", "a charge without uid or status")
    if code != APPROVED:
        raise ProviderDeclined(decline_of(code), f"PayPlus {code}", session_id=uid)
    return Charged(uid, PaymentStatus.PAID, uid)


def token_of(data: object, token: str) -> SavedMethod:
    """The card behind a token, as PayPlus shows it."""
    source = data if isinstance(data, dict) else {}
    one = read_transaction({**source, "transaction_uid": token, "token_uid": token})
    return (None if one is None else one.saved) or SavedMethod(token=token)


def decline_of(code: str | None) -> str:
    """A status code in the words of domain/declines.py."""
    return DECLINES.get(code or "", f"declined_{code}" if code else "generic_decline")


def charge_of(found: Sequence[Transaction], reference: UUID, uid: str | None) -> ProviderPayment | None:
    """The charge of a token among transactions, by PayPlus's id or our reference; None when it is not there.

    A charge without success is FAILED: nobody can try another card. Raises OutcomeUnknown when it cannot be read.
    """
    own = [one for one in found if one.type in (CHARGE, "") and _is_ours(one, reference, uid)]
    if not own:
        return None
    main = next((one for one in own if one.approved), own[0])
    if main.cancelled:
        return ProviderPayment(PaymentStatus.CANCELED, main.uid, main.uid, failure_code="transaction_cancelled")
    if not main.approved:
        return ProviderPayment(PaymentStatus.FAILED, main.uid, main.uid, failure_code=decline_of(main.status_code))
    if main.amount is None:
        raise OutcomeUnknown("unreadable_amount")
    others = [one for one in found if one is not main]
    refunds = refunds_listed(others, reference)
    return ProviderPayment(
        PaymentStatus.PAID,
        session_id=main.uid,
        transaction_id=main.uid,
        captured=main.amount,
        captured_at=main.at,
        refunded=None if refunds is None else refunded_in(others, main.amount.currency),
        refunds=refunds,
        method=main.method,
        card_brand=main.card_brand,
        card_last4=main.card_last4,
    )


def setup_of(found: Sequence[Transaction], reference: UUID, session_id: str) -> ProviderSetup | None:
    """The set-up behind a page's transactions; None when nobody has tried yet."""
    own = [one for one in found if one.page_uid in (None, session_id) and one.reference in (None, reference)]
    made = next((one for one in own if one.approved and one.token is not None), None)
    if made is not None:
        return ProviderSetup(SetupStatus.SUCCEEDED, session_id, made.saved)
    if not own:
        return None
    return ProviderSetup(SetupStatus.PENDING, session_id, failure_code=decline_of(own[0].status_code))


def search_window(created_at: datetime, now: datetime) -> dict[str, str]:
    """The days in which a charge of this moment must have been made."""
    return {
        "fromDate": f"{created_at - SEARCHED_BEFORE:%Y-%m-%d}",
        "untilDate": f"{max(created_at, now) + SEARCHED_AFTER:%Y-%m-%d}",
    }


def _is_ours(one: Transaction, reference: UUID, uid: str | None) -> bool:
    return one.uid == uid if uid is not None else reference in (one.reference, one.further_reference)
