"""A person's decision on a payment that waits for one: checked against the provider's facts, then carried out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4, uuid5

from sqlalchemy.ext.asyncio import AsyncSession

from activities import returned_refunds
from activities.confirmation import ConfirmationActivities, Seen, Silent
from activities.credit import NothingOverdrawn, write_off
from activities.fraud import FraudGuards
from activities.refunds import release_refund, settle_refund
from activities.review_state import PAID_TWICE_ENDED, owed_by_payer, payer_credit, refresh
from activities.settlement import settle
from activities.unbooked import GivenBack, close_given_back, take_unbooked
from domain.ledger import LedgerEntry
from domain.money import Money
from domain.payment import CAPTURED, CLOSED_WITHOUT_MONEY, PaymentStatus, SurplusStatus
from domain.refund import RefundState
from domain.review import (
    CLOSED_BY_REVIEW,
    NEEDS_REFERENCE,
    OF_OVERPAYMENTS,
    REVIEWS,
    UNBOOKED,
    ReviewAction,
    ReviewReason,
    ReviewRefused,
)
from providers.base import ProviderPayment
from storage import audit, ledger, outbox, payments, refunds, surplus
from storage.attempts import Loaded
from storage.models import Attempt, Payment, SurplusCapture, Workspace


class NotOpen(ValueError):
    """Nothing of the payment waits for a person."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decides. `amount` of an unconfirmed capture; `reference` names a payment by other means."""

    action: ReviewAction
    actor: str
    amount: Money | None = None
    reference: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the providers said a moment ago, where the reason asks for it."""

    seen: Sequence[Seen] = ()
    silent: Sequence[Silent] = ()

    @property
    def money(self) -> list[Seen]:
        """The attempts that brought money."""
        return [one for one in self.seen if one.money]


@dataclass(slots=True)
class Decided:
    """What the decision did. `to_refund`: overpayments whose refund is started now; `refunds`: those that it ended."""

    reason: ReviewReason
    left: ReviewReason | None = None
    to_refund: list[UUID] = field(default_factory=list)
    refunds: list[UUID] = field(default_factory=list)


async def facts_of(confirmation: ConfirmationActivities, loaded: Loaded) -> Facts:
    """Ask the providers where money may be that is not in the books; otherwise the books know."""
    if loaded.payment.flag not in UNBOOKED and loaded.payment.flag != ReviewReason.TRANSACTION_TAKEN:
        return Facts()
    seen, silent = await confirmation.facts(loaded)
    return Facts(seen, silent)


async def decide(
    session: AsyncSession,
    payment: Payment,
    workspace: Workspace,
    decision: Decision,
    facts: Facts,
    guards: FraudGuards,
    *,
    at: datetime,
) -> Decided:
    """Carry a decision out on a locked payment, with its audit entry and notification.

    Raises NotOpen, ReviewRefused with what would fit.
    """
    if payment.flag is None:
        raise NotOpen("nothing of this payment waits for a decision")
    reason = ReviewReason(payment.flag)
    acts = REVIEWS[reason].acts
    if decision.action not in acts:
        raise ReviewRefused(f"{reason.value} takes {', '.join(act.value for act in acts)}")
    if decision.action is ReviewAction.CLOSE and reason in NEEDS_REFERENCE and decision.reference is None:
        raise ReviewRefused(f"reference: {acts[ReviewAction.CLOSE]}")
    if facts.silent:
        raise ReviewRefused(f"{facts.silent[0].way.account.provider} does not answer; nothing was decided")
    work = _Work(session, payment, workspace, decision, facts, guards, reason, at)
    decided = Decided(reason)
    await _HANDLERS[reason](work, decided)
    decided.left = None if payment.flag is None else ReviewReason(payment.flag)
    _tell(work, decided)
    return decided


@dataclass(slots=True)
class _Work:
    session: AsyncSession
    payment: Payment
    workspace: Workspace
    decision: Decision
    facts: Facts
    guards: FraudGuards
    reason: ReviewReason
    at: datetime

    def clear(self, reason: ReviewReason) -> None:
        payments.clear_flag(self.session, self.payment, reason, actor=self.decision.actor)


async def _unbooked(work: _Work, decided: Decided) -> None:
    """Money that did not fit: take it as it is, send it back, or end what has gone back."""
    action, money = work.decision.action, work.facts.money or _named_by_a_person(work)
    on_record = await _on_record(work)
    if on_record and action is ReviewAction.ACCEPT:
        raise ReviewRefused("it is being sent back; refund it again, or close it with a reference")
    if on_record:
        await _end_what_is_on_record(work, on_record, decided)
    elif action is ReviewAction.ACCEPT:
        await _accept(work, money)
    elif action is ReviewAction.REFUND:
        await _refund(work, money, decided)
    else:
        await _close(work, money)


async def _end_what_is_on_record(work: _Work, rows: Sequence[tuple[SurplusCapture, Attempt]], decided: Decided) -> None:
    """It was to be sent back before: the provider has not done so yet, or refused."""
    reference, actor = work.decision.reference, work.decision.actor
    if work.decision.action is ReviewAction.CLOSE and reference is None:
        raise ReviewRefused("its refund is under way or was refused: refund it, or close it with a reference")
    for row, attempt in rows:
        if reference is not None and work.decision.action is ReviewAction.CLOSE:
            surplus.settle_outside(work.session, row, reference=reference, at=work.at, actor=actor)
        else:
            surplus.change_status(work.session, row, attempt, SurplusStatus.REFUNDING, at=work.at, actor=actor)
            decided.to_refund.append(row.id)
    await refresh(work.session, work.payment, work.workspace, at=work.at, actor=actor)


def _named_by_a_person(work: _Work) -> list[Seen]:
    """The capture whose amount nobody vouches for, with the amount that the person names."""
    if work.reason is not ReviewReason.AMOUNT_UNCONFIRMED or work.decision.amount is None:
        return []
    one = next((one for one in work.facts.seen if one.unconfirmed), None)
    if one is None:
        return []
    way, amount = one.way, work.decision.amount
    session_id = None if way.attempt is None else way.attempt.session_id
    method = work.payment.method if way.attempt is None else way.attempt.method
    observed = ProviderPayment(PaymentStatus.PAID, session_id=session_id, captured=amount, method=method)
    return [Seen(way, observed, claimed=True)]


async def _accept(work: _Work, money: Sequence[Seen]) -> None:
    payment, decision = work.payment, work.decision
    if not money:
        raise ReviewRefused("the provider shows no captured money" if decision.amount else "amount: how much came")
    one, captured = money[0], money[0].observed.captured
    assert captured is not None  # noqa: S101  (that is what money means)
    if captured.currency != payment.currency:
        raise ReviewRefused(f"{captured} {captured.currency} came; only {payment.currency} can be booked: refund it")
    if decision.amount is not None and decision.amount != captured:
        raise ReviewRefused(f"amount: {captured} {captured.currency} was captured")
    if one.observed.refunded == captured:
        raise ReviewRefused("all of it has gone back at the provider: close it")
    asked = payment.money
    payment.amount = captured.to_decimal()
    await settle(
        work.session,
        payment,
        work.workspace,
        one.observed,
        one.way.attempt,
        at=work.at,
        guards=work.guards,
    )
    audit.record(
        work.session,
        payment.workspace_id,
        actor=decision.actor,
        action="payment.amount_accepted",
        subject=("payment", payment.id),
        details={"asked_for": str(asked), "captured": str(captured), "currency": payment.currency},
    )


async def _refund(work: _Work, money: Sequence[Seen], decided: Decided) -> None:
    if not money:
        raise ReviewRefused("the provider shows no captured money: close it")
    for one in money:
        captured = one.observed.captured
        assert captured is not None  # noqa: S101  (that is what money means)
        left = captured - (one.observed.refunded or Money.zero(captured.currency))
        if left.minor <= 0:
            raise ReviewRefused("all of it has gone back at the provider: close it")
        taken = await take_unbooked(
            work.session,
            work.payment,
            work.workspace,
            one.observed,
            one.way.attempt,
            amount=left,
            reason=work.reason,
        )
        if taken is None:
            raise ReviewRefused("the provider's transaction has settled another payment")
        decided.to_refund.append(taken)


async def _close(work: _Work, money: Sequence[Seen]) -> None:
    """Nothing is held any more, or the merchant has paid it back by other means."""
    reference = work.decision.reference
    held = [one for one in money if one.observed.captured != one.observed.refunded]
    if held and reference is None:
        amount = held[0].observed.captured
        raise ReviewRefused(f"the provider holds {amount} of it: decide on that, or close it with a reference")
    how = GivenBack(work.reason, work.decision.actor, reference if held else None)
    for one in money:
        await close_given_back(
            work.session, work.payment, work.workspace, one.observed, one.way.attempt, how, at=work.at
        )
    if not money:
        _cancel(work)


async def _on_record(work: _Work) -> list[tuple[SurplusCapture, Attempt]]:
    rows = await surplus.of_payment(work.session, work.payment.id)
    return [
        await surplus.lock(work.session, row.id)
        for row in rows
        if row.reason in UNBOOKED and SurplusStatus(row.status) in {*surplus.UNDECIDED, SurplusStatus.REFUNDING}
    ]


def _cancel(work: _Work) -> None:
    """No money of its own came: an open payment is cancelled; one that has ended stays as it is."""
    work.clear(work.reason)
    if PaymentStatus(work.payment.status) in CLOSED_WITHOUT_MONEY:
        work.payment.status_reason = CLOSED_BY_REVIEW
        return
    payments.change_status(
        work.session,
        work.workspace,
        work.payment,
        PaymentStatus.CANCELED,
        at=work.at,
        actor=work.decision.actor,
        reason=CLOSED_BY_REVIEW,
    )


async def _taken(work: _Work, decided: Decided) -> None:  # noqa: ARG001
    """The provider named a transaction that is another payment's."""
    for one in work.facts.money:
        holder = await payments.holder_of_transaction(
            work.session, one.way.account.provider, one.observed.transaction_id
        )
        if holder in (None, work.payment.id) and work.payment.status not in CAPTURED:
            raise ReviewRefused("the provider shows money of this payment's own: it is booked at the next poll")
    if work.payment.status in CAPTURED:
        work.clear(work.reason)
        await refresh(work.session, work.payment, work.workspace, at=work.at, actor=work.decision.actor)
    else:
        _cancel(work)


async def _overpaid(work: _Work, decided: Decided) -> None:
    """Overpayments that nobody has decided on."""
    rows = await surplus.of_payment(work.session, work.payment.id)
    under_way = [row.id for row in rows if SurplusStatus(row.status) is SurplusStatus.REFUNDING]
    waiting = [row.id for row in rows if SurplusStatus(row.status) in surplus.UNDECIDED]
    if not waiting and under_way and work.decision.action is ReviewAction.ACCEPT:
        raise ReviewRefused("its refund is under way")
    for surplus_id in waiting + (under_way if work.decision.action is ReviewAction.CLOSE else []):
        row, attempt = await surplus.lock(work.session, surplus_id)
        if work.decision.action is ReviewAction.CLOSE:
            assert work.decision.reference is not None  # noqa: S101  (asked for before)
            reference = work.decision.reference
            surplus.settle_outside(work.session, row, reference=reference, at=work.at, actor=work.decision.actor)
            continue
        keeps = work.decision.action is ReviewAction.ACCEPT
        status = SurplusStatus.KEPT if keeps else SurplusStatus.REFUNDING
        surplus.change_status(work.session, row, attempt, status, at=work.at, actor=work.decision.actor)
    if work.decision.action is ReviewAction.REFUND:
        decided.to_refund += waiting + under_way
    await refresh(work.session, work.payment, work.workspace, at=work.at, actor=work.decision.actor)


async def _returned(work: _Work, decided: Decided) -> None:  # noqa: ARG001
    """Refunds that came back, and were paid by other means since."""
    assert work.decision.reference is not None  # noqa: S101  (asked for before)
    for row in await refunds.of_payment(work.session, work.payment.id):
        if RefundState(row.status) is RefundState.RETURNED:
            await returned_refunds.settle_outside(
                work.session,
                work.payment,
                work.workspace,
                row,
                reference=work.decision.reference,
                actor=work.decision.actor,
                at=work.at,
            )
    work.clear(work.reason)
    await refresh(work.session, work.payment, work.workspace, at=work.at, actor=work.decision.actor)


async def _paid_twice(work: _Work, decided: Decided) -> None:  # noqa: ARG001
    """The payer has had a refund twice: they have given it back, or the merchant bears it."""
    owed = await owed_by_payer(work.session, work.payment)
    if owed.minor > 0:
        outside = work.decision.action is ReviewAction.CLOSE
        turn = await ledger.count_movements(work.session, work.payment.id, kind=PAID_TWICE_ENDED)
        ledger.book(
            work.session,
            workspace_id=work.payment.workspace_id,
            payment_id=work.payment.id,
            movement_id=uuid5(work.payment.id, f"{PAID_TWICE_ENDED}-{turn}"),
            kind=PAID_TWICE_ENDED,
            entries=[
                LedgerEntry("refunds_paid_outside" if outside else "refund_losses", owed),
                LedgerEntry(payer_credit(work.payment), -owed),
            ],
        )
    work.clear(work.reason)
    await refresh(work.session, work.payment, work.workspace, at=work.at, actor=work.decision.actor)


async def _exceeding(work: _Work, decided: Decided) -> None:  # noqa: ARG001
    """What went back beyond the payment is in no books: a person has settled it with the provider or the payer."""
    work.clear(work.reason)
    await refresh(work.session, work.payment, work.workspace, at=work.at, actor=work.decision.actor)


async def _unconfirmed(work: _Work, decided: Decided) -> None:
    """A refund of ours that the provider tells nothing of: a person has seen there whether it was made."""
    rows = await refunds.unconfirmed(work.session, work.payment.id)
    for found in rows[:1]:
        row = await refunds.lock(work.session, found.id)
        decided.refunds.append(row.id)
        if work.decision.action is ReviewAction.ACCEPT:
            await settle_refund(work.session, work.payment, work.workspace, row, at=work.at)
        else:
            await release_refund(work.session, work.payment, work.workspace, row, code=CLOSED_BY_REVIEW, at=work.at)
    await refresh(work.session, work.payment, work.workspace, at=work.at, actor=work.decision.actor)


async def _overdrawn(work: _Work, decided: Decided) -> None:  # noqa: ARG001
    """Used credit without money behind it: the merchant bears it, or the customer has paid it by other means."""
    decision = work.decision
    reason = decision.reference or decision.note or work.reason.value
    with suppress(NothingOverdrawn):  # a dispute was won since
        await write_off(
            work.session,
            work.workspace,
            work.payment,
            cause=uuid4(),
            reason=reason,
            actor=decision.actor,
            at=work.at,
        )
    work.clear(work.reason)
    await refresh(work.session, work.payment, work.workspace, at=work.at, actor=decision.actor)


_HANDLERS: dict[ReviewReason, Callable[[_Work, Decided], Awaitable[None]]] = {
    **dict.fromkeys(UNBOOKED, _unbooked),
    **dict.fromkeys(OF_OVERPAYMENTS, _overpaid),
    ReviewReason.TRANSACTION_TAKEN: _taken,
    ReviewReason.REFUND_RETURNED: _returned,
    ReviewReason.REFUND_PAID_TWICE: _paid_twice,
    ReviewReason.REFUND_EXCEEDS_PAYMENT: _exceeding,
    ReviewReason.REFUND_UNCONFIRMED: _unconfirmed,
    ReviewReason.CREDIT_OVERDRAWN: _overdrawn,
}


def _tell(work: _Work, decided: Decided) -> None:
    """Put the decision on the audit log and tell the order service."""
    details = {
        "review_reason": work.reason.value,
        "action": work.decision.action.value,
        "note": work.decision.note,
        "reference": work.decision.reference,
        "under_way": bool(decided.to_refund),
    }
    audit.record(
        work.session,
        work.payment.workspace_id,
        actor=work.decision.actor,
        action="payment.reviewed",
        subject=("payment", work.payment.id),
        details=details,
    )
    told = {name: value for name, value in details.items() if name not in ("review_reason", "note")}
    outbox.add_notice(
        work.session,
        work.workspace,
        work.payment,
        notice_type="payment.reviewed",
        at=work.at,
        data=payments.notice_data(work.payment, PaymentStatus(work.payment.status))
        | told
        | {"reviewed_reason": work.reason.value},
    )
