"""What kind of refusal a decline code is: whether asking again can help, and whether the payer can.

The codes are our own vocabulary. Adapters put their provider's codes into it (`providers/*/declines.py` or the errors
table); Stripe's names are taken as they are. A payment that failed by a decline has the code as its `status_reason`.
"""

from __future__ import annotations

from enum import StrEnum


class DeclineClass(StrEnum):
    """`HARD`: this method will not pay, another one is needed. `SOFT`: the same method may pay later.

    `ACTION_REQUIRED`: the payer has to confirm to the bank. `FAULT`: no decline at all, but a fault of the request or
    of the account at the provider, which the merchant mends. `UNKNOWN`: a code that says nothing about it.
    """

    HARD = "hard"
    SOFT = "soft"
    ACTION_REQUIRED = "action_required"
    FAULT = "fault"
    UNKNOWN = "unknown"


_HARD = frozenset(
    {
        "account_closed",
        "bank_account_unverified",
        "card_not_supported",
        "currency_not_supported",
        "do_not_try_again",
        "expired_card",
        "fraudulent",
        "highest_risk_level",
        "incorrect_cvc",
        "incorrect_number",
        "invalid_account",
        "invalid_card_type",
        "invalid_cvc",
        "invalid_expiry_month",
        "invalid_expiry_year",
        "invalid_number",
        "lost_card",
        "merchant_blacklist",
        "method_detached",
        "method_expired",
        "method_not_found",
        "new_account_information_available",
        "not_permitted",
        "payment_method_unexpected_state",
        "pickup_card",
        "resource_missing",
        "restricted_card",
        "revocation_of_all_authorizations",
        "revocation_of_authorization",
        "security_violation",
        "service_not_allowed",
        "stolen_card",
        "stop_payment_order",
        "testmode_decline",
        "token_not_found",
        "transaction_not_allowed",
    }
)
_SOFT = frozenset(
    {
        "amount_limit_exceeded",
        "approve_with_id",
        "call_issuer",
        "card_declined",
        "card_velocity_exceeded",
        "do_not_honor",
        "duplicate_transaction",
        "generic_decline",
        "insufficient_funds",
        "issuer_not_available",
        "no_action_taken",
        "processing_error",
        "reenter_transaction",
        "try_again_later",
        "withdrawal_count_limit_exceeded",
    }
)
_ACTION_REQUIRED = frozenset(
    {
        "authentication_not_handled",
        "authentication_required",
        "mobile_device_authentication_required",
        "offline_pin_required",
        "online_or_offline_pin_required",
        "payment_intent_authentication_failure",
        "setup_intent_authentication_failure",
    }
)
_FAULT = frozenset(
    {
        "amount_not_allowed",
        "api_key_missing",
        "blocked",
        "conflicting_payment_counts",
        "credential_environments",
        "credential_invalid",
        "credential_missing",
        "credentials_unreadable",
        "credit_not_allowed",
        "credit_not_possible",
        "direct_debit_not_allowed",
        "holds_not_allowed",
        "http_401",
        "http_403",
        "invalid_access_token",
        "invalid_credentials",
        "invalid_field",
        "invalid_identification",
        "invalid_identifier",
        "invalid_link",
        "invalid_payment_count",
        "invalid_products",
        "link_expired",
        "method_not_allowed",
        "missing_field",
        "no_api_access",
        "no_business",
        "option_invalid",
        "page_code_mismatch",
        "page_code_missing",
        "page_inactive",
        "page_misconfigured",
        "payer_name_or_phone_invalid",
        "payer_name_required",
        "payer_phone_required",
        "payment_count_not_allowed",
        "payment_type_not_allowed",
        "payments_do_not_add_up",
        "signature_refused",
        "sum_differs_from_products",
        "terminal_not_allowed",
        "too_many_attempts",
        "transaction_not_allowed_to_account",
        "unknown_endpoint",
        "unknown_method",
        "unknown_public_key",
        "wrong_api_key",
        "wrong_user_id_or_page_code",
    }
)


def decline_class(code: str | None) -> DeclineClass:
    """The class of a decline by its code. A code that is not in the table is UNKNOWN, and so is no code."""
    if code in _HARD:
        return DeclineClass.HARD
    if code in _SOFT:
        return DeclineClass.SOFT
    if code in _FAULT:
        return DeclineClass.FAULT
    return DeclineClass.ACTION_REQUIRED if code in _ACTION_REQUIRED else DeclineClass.UNKNOWN
