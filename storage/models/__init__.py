"""All tables. Constraints, not code, are what holds the promises under concurrency; each says which one it holds.

Amounts are NUMERIC in major units with the currency beside them. Times are UTC. Rows of `audit_log` and
`ledger_entries` are never changed (triggers in the migration refuse it).
"""

from __future__ import annotations

from storage.models.accounts import BankList, ProviderAccount, ProviderHealth, ProviderPayout
from storage.models.affiliates import Blocked, Commission, Payout, PayoutFile, PayoutItem, PayoutLine, Referrer
from storage.models.base import AMOUNT, RATE, Base
from storage.models.books import AuditEntry, AuditHead, LedgerEntry
from storage.models.messages import IdempotentAnswer, OrderNotice, WebhookEvent, WebhookRejection
from storage.models.methods import MethodSetup, PaymentMethod, ProviderCustomer, ReplacedToken
from storage.models.payments import Attempt, Dispute, Payment, Refund, RiskAlert, SurplusCapture
from storage.models.receipts import Receipt, ReceiptCounter, ReceiptPdf
from storage.models.subscriptions import (
    CreditEntry,
    CustomerCredit,
    Invoice,
    Plan,
    Subscription,
    SubscriptionChangeRecord,
)
from storage.models.workspaces import ApiKey, Workspace

__all__ = [
    "AMOUNT",
    "RATE",
    "ApiKey",
    "Attempt",
    "AuditEntry",
    "AuditHead",
    "BankList",
    "Base",
    "Blocked",
    "Commission",
    "CreditEntry",
    "CustomerCredit",
    "Dispute",
    "IdempotentAnswer",
    "Invoice",
    "LedgerEntry",
    "MethodSetup",
    "OrderNotice",
    "Payment",
    "PaymentMethod",
    "Payout",
    "PayoutFile",
    "PayoutItem",
    "PayoutLine",
    "Plan",
    "ProviderAccount",
    "ProviderCustomer",
    "ProviderHealth",
    "ProviderPayout",
    "Receipt",
    "ReceiptCounter",
    "ReceiptPdf",
    "Referrer",
    "Refund",
    "ReplacedToken",
    "RiskAlert",
    "Subscription",
    "SubscriptionChangeRecord",
    "SurplusCapture",
    "WebhookEvent",
    "WebhookRejection",
    "Workspace",
]
