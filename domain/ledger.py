"""Double entry: every movement of money is a set of entries that sums to zero in each currency."""

from __future__ import annotations

from dataclasses import dataclass

from domain.money import Money


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One side of a movement. A positive amount debits the account, a negative one credits it."""

    account: str
    amount: Money


def capture_entries(
    *,
    net: Money,
    vat: Money,
    commission: Money | None,
    provider_account: str,
    referrer: str | None,
    fee: Money | None = None,
) -> list[LedgerEntry]:
    """A captured payment: the provider owes us the total less its fee; net is sales, VAT the state's.

    A share is the referrer's. Zero amounts make no entry.
    """
    kept = fee or Money.zero(net.currency)
    entries = [
        LedgerEntry(f"provider:{provider_account}", net + vat - kept),
        LedgerEntry("provider_fees", kept),
        LedgerEntry("sales", -net),
        LedgerEntry("vat_payable", -vat),
    ]
    if commission is not None and referrer is not None:
        entries += [
            LedgerEntry("commission_expense", commission),
            LedgerEntry(owed_to(referrer), -commission),
        ]
    return [entry for entry in entries if entry.amount.minor]


def surplus_entries(amount: Money, *, provider_account: str, payment_id: str) -> list[LedgerEntry]:
    """Money beyond the obligation: the provider owes it to us, and we owe it to the payer."""
    return [
        LedgerEntry(f"provider:{provider_account}", amount),
        LedgerEntry(f"payer_credit:{payment_id}", -amount),
    ]


def surplus_refund_entries(amount: Money, *, provider_account: str, payment_id: str) -> list[LedgerEntry]:
    """The same money on its way back."""
    return [
        LedgerEntry(f"payer_credit:{payment_id}", amount),
        LedgerEntry(f"provider:{provider_account}", -amount),
    ]


def settled_outside_entries(amount: Money, *, payment_id: str) -> list[LedgerEntry]:
    """What we owed a payer was paid by other means than the provider: the money has left us, and nothing is owed."""
    return [
        LedgerEntry(f"payer_credit:{payment_id}", amount),
        LedgerEntry("refunds_paid_outside", -amount),
    ]


def owed_to(referrer: str) -> str:
    """The account of what we owe a referrer: a credit balance is owed, a debit balance is carried forward."""
    return f"commission_payable:{referrer}"


def payout_entries(*, amount: Money, referrer: str) -> list[LedgerEntry]:
    """A commission paid out: what we owed the referrer has left us. A zero amount makes no entry."""
    entries = [
        LedgerEntry(owed_to(referrer), amount),
        LedgerEntry("commission_paid_out", -amount),
    ]
    return [entry for entry in entries if entry.amount.minor]


def refund_entries(
    *,
    net: Money,
    vat: Money,
    commission: Money,
    provider_account: str,
    referrer: str | None,
    fee: Money | None = None,
) -> list[LedgerEntry]:
    """Money on its way back: sales and tax shrink, the provider owes us less, the referrer gives a share back.

    `fee` is what the provider gives back of its own. A commission that was paid out already leaves the referrer's
    account in debit: the next ones make up for it. Zero amounts make no entry.
    """
    returned = fee or Money.zero(net.currency)
    entries = [
        LedgerEntry("sales", net),
        LedgerEntry("vat_payable", vat),
        LedgerEntry(f"provider:{provider_account}", returned - net - vat),
        LedgerEntry("provider_fees", -returned),
    ]
    if referrer is not None:
        entries += [
            LedgerEntry(owed_to(referrer), commission),
            LedgerEntry("commission_expense", -commission),
        ]
    return [entry for entry in entries if entry.amount.minor]


def payout_sent_entries(amount: Money, *, referrer: str, payout_id: str) -> list[LedgerEntry]:
    """A line of an approved batch: what we owed the referrer is on its way."""
    return [
        LedgerEntry(owed_to(referrer), amount),
        LedgerEntry(f"payouts_in_transit:{payout_id}", -amount),
    ]


def payout_paid_entries(amount: Money, *, payout_id: str) -> list[LedgerEntry]:
    """It has arrived: the money has left us."""
    return [
        LedgerEntry(f"payouts_in_transit:{payout_id}", amount),
        LedgerEntry("commission_paid_out", -amount),
    ]


def payout_returned_entries(amount: Money, *, referrer: str, payout_id: str) -> list[LedgerEntry]:
    """It could not be paid: we owe it to the referrer again."""
    return [
        LedgerEntry(f"payouts_in_transit:{payout_id}", amount),
        LedgerEntry(owed_to(referrer), -amount),
    ]


def payout_bounced_entries(amount: Money, *, referrer: str) -> list[LedgerEntry]:
    """It was booked as paid, and the bank brought it back: we have the money, and owe it to the referrer again."""
    return [
        LedgerEntry("commission_paid_out", amount),
        LedgerEntry(owed_to(referrer), -amount),
    ]


def commission_rejected_entries(amount: Money, *, referrer: str) -> list[LedgerEntry]:
    """A commission that a person refused is owed to nobody. A zero amount makes no entry."""
    entries = [
        LedgerEntry(owed_to(referrer), amount),
        LedgerEntry("commission_expense", -amount),
    ]
    return [entry for entry in entries if entry.amount.minor]


def dispute_opened_entries(amount: Money, *, provider_account: str, dispute_id: str) -> list[LedgerEntry]:
    """The bank has the money for now: the provider owes us less, and the dispute owes us what was taken."""
    return [
        LedgerEntry(f"disputed:{dispute_id}", amount),
        LedgerEntry(f"provider:{provider_account}", -amount),
    ]


def dispute_won_entries(amount: Money, *, provider_account: str, dispute_id: str) -> list[LedgerEntry]:
    """The money is back."""
    return [
        LedgerEntry(f"provider:{provider_account}", amount),
        LedgerEntry(f"disputed:{dispute_id}", -amount),
    ]


def dispute_lost_entries(
    amount: Money, *, dispute_id: str, commission: Money | None, referrer: str | None
) -> list[LedgerEntry]:
    """The money is gone, and with it the referrer's share of it. Zero amounts make no entry."""
    entries = [
        LedgerEntry("dispute_losses", amount),
        LedgerEntry(f"disputed:{dispute_id}", -amount),
    ]
    if commission is not None and referrer is not None:
        entries += [
            LedgerEntry(owed_to(referrer), commission),
            LedgerEntry("commission_expense", -commission),
        ]
    return [entry for entry in entries if entry.amount.minor]


def credit_entries(amount: Money, *, customer: str) -> list[LedgerEntry]:
    """A customer's credit grows by money that was captured and is not earned now; a negative amount is the way back.

    It is owed to the customer as a part of the next invoices. What an invoice uses of it is earned after all; what is
    withdrawn, or goes back to the payer by a refund, is owed as credit no more. A zero amount makes no entry.
    """
    entries = [
        LedgerEntry("credit_adjustments", amount),
        LedgerEntry(f"customer_credit:{customer}", -amount),
    ]
    return [entry for entry in entries if entry.amount.minor]
