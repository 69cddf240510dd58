"""Settlement: everything that follows from captured money, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncSession

from activities import billing
from activities.fraud import ACCEPTED, FraudGuards
from activities.unbooked import GivenBack, adopt, close_given_back
from domain.commission import CommissionRefusal, Review, decide_commission
from domain.fees import FeeSchedule
from domain.fraud import Judgement, Verdict
from domain.ledger import capture_entries
from domain.money import Money
from domain.payment import CAPTURED, Confirmation, PaymentStatus
from domain.receipt import Dealer, Party, ReceiptDocument, document_of_capture, kind_for_capture
from domain.review import UNBOOKED, WHOLE, ReviewReason
from providers.base import ProviderPayment
from storage import attempts, audit, commissions, ledger, payments, receipts, referrers, surplus, workspaces
from storage.models import Attempt, Payment, Receipt, Workspace

ORDER_PAID_TWICE = ReviewReason.ORDER_PAID_TWICE
SECOND_CAPTURE = ReviewReason.SECOND_CAPTURE
TRANSACTION_TAKEN = ReviewReason.TRANSACTION_TAKEN
AMOUNT_UNCONFIRMED = ReviewReason.AMOUNT_UNCONFIRMED


async def settle(
    session: AsyncSession,
    payment: Payment,
    workspace: Workspace,
    observed: ProviderPayment,
    attempt: Attempt | None = None,
    *,
    at: datetime,
    guards: FraudGuards | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Confirmation:
    """Book captured money on a locked payment: receipt, commission, ledger, notification, audit entry, status.

    All of it commits together or not at all. Money that is not what was asked for is flagged and not settled: the
    payment stays visibly unknown until a person decides, or until all of it has gone back at the provider. Where the
    order is one obligation that another payment has met, the money is surplus: it makes the payment paid, but earns no
    receipt and no commission. A repeat finds the payment captured and returns what is on record; money beyond that is
    surplus.
    `attempt` is the way by which the money came; None when it is not on record yet. `guards` judge the referral.
    `clock` dates the document, when its number's lock is held; without it `at` does.
    """
    captured = observed.captured
    if captured is None:
        raise ValueError("settle needs captured money")
    if payment.status in CAPTURED:
        await record_surplus(session, payment, workspace, observed, attempt)
        receipt = await receipts.of_payment(session, payment.id)
        return Confirmation(PaymentStatus(payment.status), None if receipt is None else receipt.id, payment.flag)
    fault = _mismatch(payment, captured)
    if fault is not None and observed.refunded == captured:  # it has gone back already: nobody has to decide
        return await close_given_back(session, payment, workspace, observed, attempt, GivenBack(fault), at=at)
    if fault is not None:
        details = {"captured": str(captured), "currency": captured.currency, "expected": str(payment.money)}
        payments.set_flag(session, payment, fault, details=details)
        payments.change_status(
            session, workspace, payment, PaymentStatus.UNKNOWN, at=at, actor="provider", reason=fault
        )
        return Confirmation(PaymentStatus(payment.status), None, fault)
    attempt = await adopt(session, payment, attempt, observed)
    judgement = ACCEPTED
    if guards is not None:  # before anything is put on the audit log, whose lock must come after the counter's
        judgement = await guards.look(session, payment, workspace, observed.card_fingerprint)
    for reason in UNBOOKED:  # what is booked now is known and fits
        payments.clear_flag(session, payment, reason)
    one_order = workspace.one_capture_per_order or payment.invoice_id is not None
    if one_order and await surplus.order_is_paid_by_another(session, payment):
        return await _pay_twice(session, payment, workspace, observed, attempt, at=at)
    # the counter's lock comes first: it orders all settlements of the workspace, so they cannot deadlock further on
    receipt = await _issue_receipt(session, payment, workspace, observed, clock or (lambda: at))
    if guards is not None:
        judgement = await guards.look_at_velocity(session, payment, workspace, judgement, at=at)
    commission = await _accrue_commission(session, payment, workspace, judgement, at)
    fee = await _expect_fee(session, payment)
    ledger.book(
        session,
        workspace_id=workspace.id,
        payment_id=payment.id,
        movement_id=uuid5(payment.id, "capture"),
        kind="capture",
        entries=capture_entries(
            net=Money.from_decimal(receipt.net, receipt.currency),
            vat=Money.from_decimal(receipt.vat, receipt.currency),
            commission=commission,
            fee=fee,
            provider_account=str(payment.provider_account_id),
            referrer=payment.referrer_id,
        ),
    )
    payments.change_status(
        session,
        workspace,
        payment,
        PaymentStatus.PAID,
        at=at,
        actor="provider",
        details={"receipt_id": str(receipt.id), "receipt_number": receipt.number},
    )
    await billing.payment_settled(session, payment, at=at)
    return Confirmation(PaymentStatus.PAID, receipt.id)


async def _expect_fee(session: AsyncSession, payment: Payment) -> Money:
    """What the provider keeps of the capture by the account's schedule, noted on the payment."""
    account = await workspaces.account(session, payment.provider_account_id)
    assert account is not None  # noqa: S101  (a foreign key)
    schedule = FeeSchedule(account.fee_rate, account.fee_fixed, account.fee_returned)
    fee = schedule.of(payment.money)
    payment.fee, payment.fee_returned = fee.to_decimal(), schedule.returned
    return fee


async def _pay_twice(
    session: AsyncSession,
    payment: Payment,
    workspace: Workspace,
    observed: ProviderPayment,
    attempt: Attempt,
    *,
    at: datetime,
) -> Confirmation:
    """The order was paid by another payment already: all of this one's money is surplus."""
    assert observed.captured is not None  # noqa: S101  (what the caller looked at)
    payments.set_flag(session, payment, ORDER_PAID_TWICE, details={"order_id": payment.order_id})
    await _record_surplus(
        session,
        payment,
        workspace,
        attempt,
        amount=observed.captured,
        transaction_id=observed.transaction_id or str(attempt.reference),
        reason=ORDER_PAID_TWICE,
    )
    payments.change_status(
        session,
        workspace,
        payment,
        PaymentStatus.PAID,
        at=at,
        actor="provider",
        reason=ORDER_PAID_TWICE,
        details={"flag": ORDER_PAID_TWICE},
    )
    return Confirmation(PaymentStatus.PAID, None, ORDER_PAID_TWICE)


async def record_surplus(
    session: AsyncSession,
    payment: Payment,
    workspace: Workspace,
    observed: ProviderPayment,
    attempt: Attempt | None,
    *,
    named: str | None = None,
    claimed: bool = False,
) -> None:
    """Record what an attempt of a captured payment brought beyond what is on record of it. A repeat changes nothing.

    A provider that is asked tells the sum of all that was captured under our reference, so what is beyond the sum on
    record is new; `named` is the transaction that an event spoke of. With `claimed` the money is what one callback
    says, of one transaction.
    """
    captured = observed.captured
    if captured is None:
        raise ValueError("surplus is captured money")
    rows = await attempts.of_payment(session, payment.id)
    attempt = next((row for row in rows if attempt is not None and row.id == attempt.id), rows[0])
    recorded = [row for row in await surplus.of_payment(session, payment.id) if row.attempt_id == attempt.id]
    known = {row.transaction_id for row in recorded}
    sums = [row.money for row in recorded if row.currency == captured.currency]
    if attempt.status == "paid":
        known.add(payment.provider_transaction_id or str(attempt.reference))
        settled_it = all(row.reason not in WHOLE for row in recorded)
        sums += [payment.money] if settled_it and payment.currency == captured.currency else []
    transaction = observed.transaction_id or str(attempt.reference)
    before = sum((one.minor for one in sums), 0)
    if not claimed and sums and captured.minor > before:
        captured = Money(captured.minor - before, captured.currency)
    elif transaction in known:
        return
    free = (transaction, named, f"{transaction}:{before + captured.minor}")
    await _record_surplus(
        session,
        payment,
        workspace,
        attempt,
        amount=captured,
        transaction_id=next(one for one in free if one is not None and one not in known),
        reason=SECOND_CAPTURE,
    )
    if attempt.status != "paid":
        await attempts.set_settled(
            session,
            attempt.id,
            status="surplus",
            transaction_id=observed.transaction_id,
            other_ids=observed.other_ids,
        )


async def _record_surplus(
    session: AsyncSession,
    payment: Payment,
    workspace: Workspace,
    attempt: Attempt,
    *,
    amount: Money,
    transaction_id: str,
    reason: ReviewReason,
) -> None:
    if payment.flag != ORDER_PAID_TWICE:  # which says more
        details = {"transaction": transaction_id, "amount": str(amount)}
        payments.set_flag(session, payment, reason, details=details)
    kept = await surplus.record(
        session, workspace, payment, attempt, transaction_id=transaction_id, amount=amount, reason=reason
    )
    if not kept:
        payments.set_flag(session, payment, TRANSACTION_TAKEN, details={"transaction": transaction_id})


def _mismatch(payment: Payment, captured: Money) -> ReviewReason | None:
    if captured.currency != payment.currency:
        return ReviewReason.CURRENCY_MISMATCH
    return None if captured == payment.money else ReviewReason.AMOUNT_MISMATCH


async def _issue_receipt(
    session: AsyncSession,
    payment: Payment,
    workspace: Workspace,
    observed: ProviderPayment,
    clock: Callable[[], datetime],
) -> Receipt:
    """The document of a capture, with the rate of the day on which the money came, where the provider tells it."""
    kind = kind_for_capture(Dealer(workspace.dealer))
    place = await receipts.next_place(session, workspace, kind.value, clock)
    captured_at = place.at if observed.captured_at is None else min(observed.captured_at, place.at)
    document = document_of_capture(
        dealer=Dealer(workspace.dealer),
        workspace_rate=workspaces.vat_rate_at(workspace, captured_at),
        number=place.number,
        issued_on=place.issued_on,
        paid_on=workspaces.legal_day(workspace, captured_at),
        seller=_seller(workspace),
        customer=_customer(payment),
        description=payment.description,
        paid=payment.money,
        paid_by=_paid_by(payment, observed),
        provider_reference=observed.transaction_id,
        order_id=payment.order_id,
        language=payment.language,
    )
    receipt = _receipt_row(payment, document)
    session.add(receipt)
    return receipt


def _receipt_row(payment: Payment, document: ReceiptDocument) -> Receipt:
    return Receipt(
        id=uuid5(payment.id, "receipt"),
        workspace_id=payment.workspace_id,
        payment_id=payment.id,
        kind=document.kind.value,
        fiscal_year=document.fiscal_year,
        number=document.number,
        issued_on=document.issued_on,
        currency=document.total.currency,
        net=document.net.to_decimal(),
        vat=document.vat.to_decimal(),
        total=document.total.to_decimal(),
        vat_rate=document.vat_rate,
        document=document.to_json(),
    )


def _seller(workspace: Workspace) -> Party:
    return Party(
        name=workspace.legal_name,
        name_he=workspace.legal_name_he,
        number=workspace.business_number,
        address=workspace.address,
    )


def _customer(payment: Payment) -> Party:
    return Party(
        name=payment.customer_name or payment.customer_email or payment.customer_id or "",
        number=payment.customer_tax_id,
        email=payment.customer_email,
    )


def _paid_by(payment: Payment, observed: ProviderPayment) -> str:
    if observed.card_last4:
        return f"{(observed.card_brand or 'card').title()} •••• {observed.card_last4}"
    return observed.method or payment.provider.title()


async def _accrue_commission(
    session: AsyncSession, payment: Payment, workspace: Workspace, judgement: Judgement, at: datetime
) -> Money | None:
    """Decide, accrue at most once an order, and audit the decision either way."""
    decision = decide_commission(
        paid=payment.money,
        rate=workspace.commission_rate,
        minimum=_minimum(workspace),
        referrer_id=payment.referrer_id,
        customer_id=payment.customer_id,
    )
    amount, refusal = decision.amount, decision.refusal
    if amount is not None and judgement.verdict is Verdict.REJECT:
        amount, refusal = None, CommissionRefusal.FRAUD_GUARD
    if amount is not None and not await commissions.insert_once(
        session, _commission_values(payment, workspace, amount, judgement, at)
    ):
        amount, refusal = None, CommissionRefusal.ORDER_HAS_COMMISSION
    if amount is not None and payment.referrer_id is not None:
        await referrers.ensure(session, workspace.id, payment.referrer_id)
    details: dict[str, object] = {"order_id": payment.order_id, "rate": str(workspace.commission_rate)}
    details |= {"amount": str(amount)} if amount is not None else {"reason": refusal.value if refusal else "none"}
    held = amount is not None and judgement.verdict is Verdict.HOLD
    audit.record(
        session,
        workspace.id,
        actor="settlement",
        action="commission.refused" if amount is None else "commission.held" if held else "commission.accrued",
        subject=("payment", payment.id),
        details=details | (judgement.details() if judgement.findings else {}),
    )
    return amount


def _minimum(workspace: Workspace) -> Money:
    """The workspace's minimum in its currency; digits that the currency does not have are cut off."""
    digits = Money.zero(workspace.currency).to_decimal().as_tuple().exponent
    quantum = Decimal(1).scaleb(int(digits))
    return Money.from_decimal(workspace.commission_minimum.quantize(quantum, rounding="ROUND_DOWN"), workspace.currency)


def _commission_values(
    payment: Payment, workspace: Workspace, amount: Money, judgement: Judgement, at: datetime
) -> dict[str, object]:
    held = judgement.verdict is Verdict.HOLD
    commission_id: UUID = uuid5(payment.id, "commission")
    return {
        "id": commission_id,
        "workspace_id": workspace.id,
        "payment_id": payment.id,
        "order_id": payment.order_id,
        "referrer_id": payment.referrer_id,
        "base_amount": payment.amount,
        "rate": workspace.commission_rate,
        "amount": amount.to_decimal(),
        "currency": amount.currency,
        "vests_at": at + timedelta(days=workspace.commission_holding_days),
        "review": Review.PENDING.value if held else None,
        "held_by": [one.rule.value for one in judgement.findings] if held else [],
    }
