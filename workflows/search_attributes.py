"""What an operator filters payments by in the Temporal UI."""

from __future__ import annotations

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from domain.payment import PaymentStatus, StartPayment
from domain.subscription import StartSubscription

PAYMENT_STATUS = SearchAttributeKey.for_keyword("PaymentStatus")
WORKSPACE = SearchAttributeKey.for_keyword("Workspace")
PROVIDER = SearchAttributeKey.for_keyword("Provider")
ORDER_ID = SearchAttributeKey.for_keyword("OrderId")
CUSTOMER_ID = SearchAttributeKey.for_keyword("CustomerId")
CURRENCY = SearchAttributeKey.for_keyword("Currency")
AMOUNT_MINOR = SearchAttributeKey.for_int("AmountMinor")
SUBSCRIPTION_STATUS = SearchAttributeKey.for_keyword("SubscriptionStatus")

ALL = (PAYMENT_STATUS, WORKSPACE, PROVIDER, ORDER_ID, CUSTOMER_ID, CURRENCY, AMOUNT_MINOR, SUBSCRIPTION_STATUS)


def of_payment(command: StartPayment) -> TypedSearchAttributes:
    """Set with the start, which costs nothing; the status alone changes later."""
    pairs: list[SearchAttributePair[str] | SearchAttributePair[int]] = [
        SearchAttributePair(PAYMENT_STATUS, PaymentStatus.PENDING.value),
        SearchAttributePair(WORKSPACE, str(command.workspace_id)),
        SearchAttributePair(PROVIDER, command.provider),
        SearchAttributePair(ORDER_ID, command.order_id),
        SearchAttributePair(CURRENCY, command.currency),
        SearchAttributePair(AMOUNT_MINOR, command.amount_minor),
    ]
    if command.customer_id is not None:
        pairs.append(SearchAttributePair(CUSTOMER_ID, command.customer_id))
    return TypedSearchAttributes(pairs)


def of_subscription(command: StartSubscription) -> TypedSearchAttributes:
    """What a subscription is found by; its status is set with the first step."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(WORKSPACE, str(command.workspace_id)),
            SearchAttributePair(CUSTOMER_ID, command.customer_id),
        ]
    )
