"""What PayPlus's status queries answer, as transactions."""

from __future__ import annotations

from providers.base import OutcomeUnknown, ProviderRejected
from providers.payplus import client
from providers.payplus.client import Answer
from providers.payplus.objects import Transaction, transactions_in
from providers.payplus.options import PayPlusAccount

_NO_TRANSACTION = (
    "find-transaction", "find-payment-request", "find-page-request", "not-found", "no-transaction",
    "missing-transaction",
)  # fmt: skip
"""Parts of the descriptions by which a query says that there is nothing. `can-not-find-transaction` is seen in public
clients; the rest is UNCONFIRMED, and the option `not_found_descriptions` adds to it."""


def found_in(account: PayPlusAccount, answer: Answer) -> list[Transaction]:
    """The transactions of a query; none where PayPlus says that there are none.

    Raises the refusal's error, and OutcomeUnknown for one that is not understood: it must not look like `unpaid`.
    """
    if answer.reason is None:
        return transactions_in(answer.data)
    refusal = client.error_of(answer)
    if not isinstance(refusal, ProviderRejected):
        raise refusal
    if answer.says(*_NO_TRANSACTION, *account.not_found_descriptions):
        return []
    raise OutcomeUnknown(refusal.code, "a status query was refused")
