"""The class of every decline code, written out a second time; what no table knows stays unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.declines import DeclineClass, decline_class

CODES = {
    "hard": """
account_closed bank_account_unverified card_not_supported currency_not_supported do_not_try_again expired_card
fraudulent highest_risk_level incorrect_cvc incorrect_number invalid_account invalid_card_type invalid_cvc
invalid_expiry_month invalid_expiry_year invalid_number lost_card merchant_blacklist method_detached method_not_found
new_account_information_available not_permitted payment_method_unexpected_state pickup_card resource_missing
restricted_card revocation_of_all_authorizations revocation_of_authorization security_violation service_not_allowed
stolen_card stop_payment_order testmode_decline token_not_found transaction_not_allowed
""",
    "soft": """
amount_limit_exceeded approve_with_id call_issuer card_declined card_velocity_exceeded do_not_honor
duplicate_transaction generic_decline insufficient_funds issuer_not_available no_action_taken processing_error
reenter_transaction try_again_later withdrawal_count_limit_exceeded
""",
    "fault": """
amount_not_allowed api_key_missing blocked conflicting_payment_counts credential_environments
credential_invalid credential_missing credentials_unreadable credit_not_allowed credit_not_possible
direct_debit_not_allowed holds_not_allowed http_401 http_403 invalid_access_token invalid_credentials
invalid_field invalid_identification invalid_identifier invalid_link invalid_payment_count invalid_products
link_expired method_not_allowed missing_field no_api_access no_business option_invalid page_code_mismatch
page_code_missing page_inactive page_misconfigured payer_name_or_phone_invalid payer_name_required
payer_phone_required payment_count_not_allowed payment_type_not_allowed payments_do_not_add_up
signature_refused sum_differs_from_products terminal_not_allowed too_many_attempts
transaction_not_allowed_to_account unknown_endpoint unknown_method unknown_public_key wrong_api_key
wrong_user_id_or_page_code
""",
    "action_required": """
authentication_not_handled authentication_required mobile_device_authentication_required offline_pin_required
online_or_offline_pin_required payment_intent_authentication_failure setup_intent_authentication_failure
""",
}
CLASSES = {code: kind for kind, codes in CODES.items() for code in codes.split()}


@pytest.mark.parametrize(("code", "kind"), CLASSES.items())
def test_each_code_has_its_class(code: str, kind: str) -> None:
    assert decline_class(code).value == kind


def test_a_code_has_one_class() -> None:
    assert len(CLASSES) == sum(len(codes.split()) for codes in CODES.values())


@given(st.one_of(st.none(), st.text(), st.sampled_from(sorted(CLASSES)).map(str.upper)))
def test_what_is_in_no_table_is_unknown(code: str | None) -> None:
    assert decline_class(code) is DeclineClass.UNKNOWN
