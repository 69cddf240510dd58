"""Refunds at the provider, and everything in our books that follows from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid5

import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import billing, dispute_money, listed_refunds, returned_refunds
from activities.confirmation import ref_of
from activities.credit import show_overdrawn
from activities.errors import as_application_error
from activities.guard import ProviderGuard
from activities.parking import parked_if_it_fails
from activities.refund_calls import Asked, RefundCalls, looking, with_earlier
from activities.review_state import refresh
from activities.settlement import ORDER_PAID_TWICE
from domain.ledger import refund_entries
from domain.money import Money
from domain.payment import CAPTURED, PaymentStatus
from domain.receipt import DocumentKind, ReceiptDocument, credit_note
from domain.refund import (
    FINAL_REFUND,
    AdvanceRefund,
    LeaveRefund,
    Reconciled,
    ReconcileRefunds,
    RefundProgress,
    RefundSplit,
    RefundState,
    split_refund,
)
from domain.review import ReviewReason
from providers.base import (
    NothingMoved,
    OutcomeUndecided,
    ProviderBusy,
    ProviderError,
    ProviderRefund,
    RefundRequest,
    RefundStatus,
)
from storage import (
    attempts,
    audit,
    commissions,
    disputes,
    inbox,
    ledger,
    outbox,
    payments,
    receipts,
    refunds,
    subscriptions,
    surplus,
)
from storage.attempts import Loaded, Way
from storage.models import Payment, Receipt, Refund, Workspace
from storage.sealing import Sealer
from storage.session import Database, is_outage

log = structlog.get_logger()

_STATE = {
    RefundStatus.SUCCEEDED: RefundState.SUCCEEDED,
    RefundStatus.PENDING: RefundState.PENDING,
    RefundStatus.FAILED: RefundState.FAILED,
}


class RefundActivities:
    """Makes refunds and follows them; the provider is called between transactions, never inside one."""

    def __init__(self, database: Database, guard: ProviderGuard, sealer: Sealer, now: Callable[[], datetime]) -> None:
        self._database = database
        self._guard = guard
        self._sealer = sealer
        self._now = now
        self._calls = RefundCalls(guard, now)

    @activity.defn
    async def advance_refund(self, command: AdvanceRefund) -> RefundProgress:
        """Ask the provider to make the refund, or what became of it, and record the answer.

        Safe to repeat: the refund's id is the idempotency value, and after an unanswered request the provider is asked
        for it before anything else. A refusal is final; what the provider cannot tell is left to a person. Raises
        ApplicationError typed as in providers/base.py.
        """
        async with self._database.transaction() as session:
            refund = await refunds.get(session, command.refund_id)
            loaded = None if refund is None else await attempts.load(session, refund.payment_id)
        if refund is None or loaded is None:
            raise ApplicationError("no such refund", "refund_not_found", None, type="PaymentNotFound")
        if RefundState(refund.status) in FINAL_REFUND:
            return await self._progress(refund)
        way = paid_way(loaded)
        with as_application_error():
            try:
                answer = await self._ask(loaded, way, refund)
            except ProviderBusy:
                raise
            except NothingMoved as error:
                answer = ProviderRefund(refund.provider_refund_id or "", RefundStatus.FAILED, error.code)
            except OutcomeUndecided as error:
                return await self.leave_refund(LeaveRefund(refund.id, error.code))
            except ProviderError as error:
                await self._unanswered(refund, error)
                raise
        return await self._record(command.refund_id, answer)

    @activity.defn
    async def leave_refund(self, command: LeaveRefund) -> RefundProgress:
        """Mark the payment of a refund that has no end for a person, once; domain.review has the acts. Repeatable."""
        async with self._database.transaction() as session:
            found = await refunds.get(session, command.refund_id)
            if found is None:
                raise ApplicationError("no such refund", "refund_not_found", None, type="PaymentNotFound")
            payment, _ = await payments.lock(session, found.payment_id)
            refund = await refunds.lock(session, command.refund_id)
            if RefundState(refund.status) not in FINAL_REFUND and refund.failure_code is None:
                if RefundState(refund.status) is RefundState.REQUESTED:
                    refund.status = RefundState.UNKNOWN.value
                refund.failure_code, refund.updated_at = command.code[:100], self._now()
                details = {"refund_id": str(refund.id), "code": command.code}
                payments.set_flag(session, payment, ReviewReason.REFUND_UNCONFIRMED, details=details)
            return _progress_of(refund, await receipts.of_refund(session, refund.id))

    @activity.defn
    async def reconcile_refunds(self, command: ReconcileRefunds) -> Reconciled:
        """After a provider told of a refund: bring ours up to date, and put on record what was made at the provider.

        Safe to repeat. Where the provider lists its refunds, each is matched by its id; elsewhere the sum of what went
        back is compared with what is on record, under the payment's lock. Refunds of ours under way without which the
        others cannot be told apart are left to their own workflows and named in the answer.
        """
        async with parked_if_it_fails(self._database, command.inbox_ids):
            return await self._reconcile(command)

    async def _reconcile(self, command: ReconcileRefunds) -> Reconciled:
        async with self._database.transaction() as session:
            loaded = await attempts.load(session, command.payment_id)
        if loaded is None:
            raise ApplicationError("no such payment", "payment_not_found", None, type="PaymentNotFound")
        if loaded.payment.status not in CAPTURED:  # the events stay in the inbox, and come again
            return Reconciled()
        done, failed = Reconciled(), None
        for way in settled_ways(loaded):
            try:
                lists = self._guard.provider(way.account).capabilities.lists_refunds
                found = await (self._take_list(loaded, way) if lists else self._compare_sums(loaded, way))
                done = Reconciled(done.receipt_ids + found.receipt_ids, done.open_refunds + found.open_refunds)
            except ApplicationError as error:  # one attempt's provider does not hold up another's
                failed = error
        if failed is not None:
            raise failed
        if not done.open_refunds:
            async with self._database.transaction() as session:
                await inbox.mark_handled(session, command.inbox_ids, outcome="refunds reconciled")
        return done

    async def _take_list(self, loaded: Loaded, way: Way) -> Reconciled:
        """Match the refunds that the provider lists with the records, one by one. Not told, nothing follows."""
        ref = ref_of(loaded.payment, way.attempt, self._sealer)
        with as_application_error():
            seen = await self._guard.call(way.account, way.health, lambda provider: provider.look(ref))
        if seen.refunds is None:
            if seen.refunded is not None:
                return await self._compare_sums(loaded, way)
            return Reconciled(tuple(await self._advance_open(loaded.payment.id)))
        taken, failed = listed_refunds.Taken(), None
        async with self._database.transaction() as session:
            listed_refunds.adopt(await self._books(session, loaded, way), seen.refunds)
        for one in sorted(seen.refunds, key=listed_refunds.age):
            try:
                async with self._database.transaction() as session:
                    await listed_refunds.take(await self._books(session, loaded, way), one, seen.refunds, taken)
            except Exception as error:
                if is_outage(error):
                    raise
                failed = error  # the next one does not wait for it
        if failed is not None:
            raise failed
        documents = taken.documents + await self._advance_open(loaded.payment.id)
        return Reconciled(tuple(documents), tuple(dict.fromkeys(taken.waiting)))

    async def _advance_open(self, payment_id: UUID) -> list[UUID]:
        """Ask for what the list did not settle of our own; one that cannot be asked for is left to its workflow."""
        async with self._database.transaction() as session:
            waiting = await refunds.under_way(session, payment_id)
        documents = []
        for refund in waiting:
            if RefundState(refund.status) is RefundState.REQUESTED or refund.origin == "provider":
                continue
            with suppress(ApplicationError):
                progress = await self.advance_refund(AdvanceRefund(refund.id))
                documents += [] if progress.receipt_id is None else [progress.receipt_id]
        return documents

    async def _books(self, session: AsyncSession, loaded: Loaded, way: Way) -> listed_refunds.Books:
        return await listed_refunds.open_books(
            session, loaded.payment.id, way.attempt, settle=settle_refund, fail=fail_refund, at=self._now()
        )

    async def _compare_sums(self, loaded: Loaded, way: Way) -> Reconciled:
        """The same where the provider tells the sum alone."""
        if way.attempt is not None and way.attempt.status != "paid":
            return Reconciled()  # money beyond the obligation: its own refund is followed by its own workflow
        async with self._database.transaction() as session:
            waiting = await refunds.under_way(session, loaded.payment.id)
        documents = []
        for refund in waiting:
            if RefundState(refund.status) is RefundState.REQUESTED:  # its own workflow asks for it at this moment
                continue
            progress = await self.advance_refund(AdvanceRefund(refund.id))
            if progress.receipt_id is not None:
                documents.append(progress.receipt_id)
        ref = ref_of(loaded.payment, way.attempt, self._sealer)
        async with self._database.transaction() as session:  # before the look, which may see more but never less
            on_record = await refunds.of_payment(session, loaded.payment.id)
            given_back = await surplus.given_back(session, loaded.payment)
        with as_application_error():
            seen = await self._guard.call(way.account, way.health, lambda provider: provider.look(ref))
            returned = await self._returned(loaded, way, on_record, given_back, seen.refunded)
        async with self._database.transaction() as session:
            payment, workspace = await payments.lock(session, loaded.payment.id)
            left = await refunds.under_way(session, payment.id)
            if not left:
                await returned_refunds.record(session, payment, workspace, returned, at=self._now())
                made = await self._record_foreign(session, payment, workspace, seen.refunded)
                documents += [] if made is None else [made]
        return Reconciled(tuple(documents), tuple(refund.id for refund in left))

    async def _returned(
        self, loaded: Loaded, way: Way, on_record: Sequence[Refund], given_back: Money, refunded: Money | None
    ) -> dict[UUID, str]:
        """Which refunds that succeeded have come back since, with the provider's code.

        Asked only where the provider says that less is with the payer than is on record: where it does not say, nothing
        follows. One that was made at the provider has no name here: it has come back if what is short is as much.
        """
        if refunded is None:
            return {}
        done = [row for row in reversed(on_record) if RefundState(row.status) is RefundState.SUCCEEDED]
        zero = Money.zero(loaded.payment.currency)
        short = sum((row.money for row in done), zero) + given_back - refunded
        found: dict[UUID, str] = {}
        for row in done:
            if short.minor <= 0:
                break
            if row.provider_refund_id is None:
                continue
            request, known_as = self._request(loaded, way, row), row.provider_refund_id
            answer = await self._guard.call(way.account, way.health, looking(request, known_as))
            if answer is not None and answer.status is RefundStatus.FAILED:
                found[row.id], short = answer.failure_code or "failed", short - row.money
        for row in done:
            unnamed = row.provider_refund_id is None and given_back.minor == 0
            if unnamed and row.money <= short:
                found[row.id], short = "returned", short - row.money
        return found

    def _request(self, loaded: Loaded, way: Way, refund: Refund) -> RefundRequest:
        payment = loaded.payment
        return RefundRequest(
            refund_id=refund.id,
            transaction_id=payment.provider_transaction_id or "",
            amount=refund.money,
            payment=ref_of(payment, way.attempt, self._sealer),
            captured=payment.money,
            refunded_before=refunds.refunded_of(payment),
            reason=refund.reason,
        )

    async def _ask(self, loaded: Loaded, way: Way, refund: Refund) -> ProviderRefund:
        async def claim(seen: datetime | None, at: datetime | None) -> bool:
            async with self._database.statement() as session:
                return await refunds.claim(session, refund.id, seen=seen, at=at)

        accepted = RefundState(refund.status) is RefundState.PENDING
        asked = Asked(refund.provider_refund_id, refund.asked_at, accepted)
        request = await with_earlier(self._database, way, self._request(loaded, way, refund), asked)
        return await self._calls.make(way, request, asked, claim)

    async def _unanswered(self, refund: Refund, error: ProviderError) -> None:
        """Silence: the refund is visibly unknown until the provider has told what it did."""
        async with self._database.transaction() as session:
            payment, _ = await payments.lock(session, refund.payment_id)
            row = await refunds.lock(session, refund.id)
            if RefundState(row.status) is RefundState.REQUESTED:
                row.status, row.updated_at = RefundState.UNKNOWN.value, self._now()
                audit.record(
                    session,
                    payment.workspace_id,
                    actor="workflow",
                    action="refund.unknown",
                    subject=("payment", payment.id),
                    details={"refund_id": str(row.id), "code": error.code},
                )

    async def _record(self, refund_id: UUID, answer: ProviderRefund) -> RefundProgress:
        state = _STATE[answer.status]
        async with self._database.transaction() as session:
            found = await refunds.get(session, refund_id)
            assert found is not None  # noqa: S101  (read a moment ago)
            payment, workspace = await payments.lock(session, found.payment_id)
            refund = await refunds.lock(session, refund_id)
            if RefundState(refund.status) in FINAL_REFUND:
                document = await receipts.of_refund(session, refund.id)
                return _progress_of(refund, document)
            refund.provider_refund_id = answer.provider_refund_id or refund.provider_refund_id
            refund.updated_at = self._now()
            document = None
            if state is RefundState.SUCCEEDED:
                document = await settle_refund(session, payment, workspace, refund, at=self._now(), clock=self._now)
            elif state is RefundState.FAILED:
                await release_refund(session, payment, workspace, refund, code=answer.failure_code, at=self._now())
            else:
                refund.status, refund.failure_code = state.value, None
                if refund.origin == "provider":  # it is followed from here on
                    refund.asked_at = refund.asked_at or self._now()
            if payment.flag == ReviewReason.REFUND_UNCONFIRMED:
                await refresh(session, payment, workspace, at=self._now(), actor="provider")
        log.info("refund", refund_id=str(refund.id), payment_id=str(payment.id), status=refund.status)
        return _progress_of(refund, document)

    async def _record_foreign(
        self, session: AsyncSession, payment: Payment, workspace: Workspace, refunded: Money | None
    ) -> UUID | None:
        """Put on record what went back without us. Returns the credit note."""
        if refunded is None or payment.status not in CAPTURED or payment.flag == ORDER_PAID_TWICE:
            return None  # of an order that was paid twice all is surplus
        if await surplus.is_whole(session, payment.id):
            return None
        # what the same attempt brought beyond the obligation goes back by the surplus, which has its own books
        given_back = await surplus.given_back(session, payment)
        missing = refunded - await refunds.with_the_payer(session, payment) - given_back
        if missing.minor <= 0:
            return None
        missing = await returned_refunds.paid_again(session, payment, workspace, missing, at=self._now())
        if missing.minor <= 0:
            return None
        await dispute_money.give_way(session, payment, missing - refunds.left_of(payment))
        if refunds.left_of(payment) < missing:
            details = {"amount": str(missing), "exceeds": str(refunds.left_of(payment))}
            if not await audit.has(
                session, ("payment", payment.id), "payment.flagged", details
            ):  # else a person has seen it
                payments.set_flag(session, payment, listed_refunds.EXCEEDS_PAYMENT, details=details)
            return None
        before = sum(row.origin == "provider" for row in await refunds.of_payment(session, payment.id))
        refund = await refunds.record_foreign(
            session,
            payment,
            {
                "id": uuid5(payment.id, f"provider-refund:number-{before + 1}"),
                "amount": missing.to_decimal(),
                "origin": "provider",
                "reason": "refunded at the provider",
            },
        )
        document = await settle_refund(session, payment, workspace, refund, at=self._now(), clock=self._now)
        return None if document is None else document.id

    async def _progress(self, refund: Refund) -> RefundProgress:
        async with self._database.transaction() as session:
            return _progress_of(refund, await receipts.of_refund(session, refund.id))


def paid_way(loaded: Loaded) -> Way:
    """The way by which the payment was paid."""
    return next(
        (way for way in loaded.ways if way.attempt is not None and way.attempt.status == "paid"), loaded.ways[0]
    )


def settled_ways(loaded: Loaded) -> list[Way]:
    """The ways that brought money, the one by which the payment was paid first."""
    brought = [way for way in loaded.ways if way.attempt is not None and way.attempt.status in attempts.SETTLED]
    paid = paid_way(loaded)
    return [paid, *(way for way in brought if way is not paid)]


async def settle_refund(
    session: AsyncSession,
    payment: Payment,
    workspace: Workspace,
    refund: Refund,
    *,
    at: datetime,
    clock: Callable[[], datetime] | None = None,
) -> Receipt | None:
    """Book a refund that succeeded, on a locked payment: credit note, claw-back, ledger, statuses, notifications.

    All of it commits together or not at all. Returns the credit note; None where no document was issued for the
    capture (an order that was paid twice). `clock` dates the note, once its number is locked; without it `at`.
    """
    before, amount = refunds.refunded_of(payment), refund.money
    payment.refund_reserved = payment.refund_reserved - refund.amount
    payment.refunded = payment.refunded + refund.amount
    original = await receipts.of_payment(session, payment.id)
    commission = await commissions.lock_of_payment(session, payment.id)
    split = split_refund(
        amount=amount,
        before=before,
        total=payment.money,
        vat=Money.zero(amount.currency) if original is None else Money.from_decimal(original.vat, amount.currency),
        commission=Money.zero(amount.currency) if commission is None else commissions.take_back(commission, payment),
        fee=Money.from_decimal(payment.fee, amount.currency) if payment.fee_returned else None,
    )
    refund.status, refund.finished_at, refund.failure_code = RefundState.SUCCEEDED.value, at, None
    refund.vat, refund.commission = split.vat.to_decimal(), split.commission.to_decimal()
    refund.fee = split.fee.to_decimal()
    clock = clock or (lambda: at)
    document = None
    if original is not None:
        document = await _issue_credit_note(session, workspace, refund, original, split, clock)
    if refund.credit_taken is None and payment.subscription_id is not None:  # made at the provider, without a request
        await subscriptions.lock(session, payment.subscription_id)  # comes before the credit's lock
    await refunds.take_credit(session, payment, refund, actor="provider")
    ledger.book(
        session,
        workspace_id=workspace.id,
        payment_id=payment.id,
        movement_id=refund.id,
        kind="refund",
        entries=refund_entries(
            net=split.net,
            vat=split.vat,
            commission=split.commission,
            fee=split.fee,
            provider_account=str(payment.provider_account_id),
            referrer=None if commission is None else commission.referrer_id,
        ),
    )
    _tell(session, payment, workspace, refund, split, document, at)
    if payment.refunded == payment.amount:
        await billing.payment_refunded(session, payment, at=at)
    await show_overdrawn(session, workspace, payment, at=at)
    return document


def _tell(
    session: AsyncSession,
    payment: Payment,
    workspace: Workspace,
    refund: Refund,
    split: RefundSplit,
    document: Receipt | None,
    at: datetime,
) -> None:
    """Move the payment's status on and tell the order service, which hears of every refund by itself."""
    previous = PaymentStatus(payment.status)
    whole = payment.refunded == payment.amount
    details = {
        "refund_id": str(refund.id),
        "amount": str(refund.money),
        "refunded": str(refunds.refunded_of(payment)),
        "commission_clawed_back": str(split.commission),
        "credit_taken_back": str(Money.from_decimal(refund.credit_taken or Decimal(0), refund.currency)),
        "credit_note": None if document is None else document.number,
    }
    audit.record(
        session,
        workspace.id,
        actor="provider",
        action="refund.succeeded",
        subject=("payment", payment.id),
        details=details,
    )
    payments.change_status(
        session,
        workspace,
        payment,
        PaymentStatus.REFUNDED if whole else PaymentStatus.PARTIALLY_REFUNDED,
        at=at,
        actor="provider",
        reason=refund.reason,
        details={"refund_id": str(refund.id), "refunded_amount": str(refund.money)},
    )
    outbox.add_notice(
        session,
        workspace,
        payment,
        notice_type="refund.succeeded",
        at=at,
        data=payments.notice_data(payment, previous) | details | {"origin": refund.origin},
    )


async def fail_refund(
    session: AsyncSession, payment: Payment, workspace: Workspace, refund: Refund, *, code: str | None, at: datetime
) -> None:
    """Record that a refund will not happen: what it had reserved can be refunded again, credit that it took is back."""
    payment.refund_reserved = payment.refund_reserved - refund.amount
    refund.status, refund.finished_at, refund.failure_code = RefundState.FAILED.value, at, code or "refused"
    await refunds.restore_credit(session, payment, refund)
    returned_refunds.tell(session, payment, workspace, refund, "refund.failed", at=at)


async def release_refund(
    session: AsyncSession, payment: Payment, workspace: Workspace, refund: Refund, *, code: str | None, at: datetime
) -> None:
    """Record that a refund of ours will not happen, and give what it had reserved to who waits for it."""
    await fail_refund(session, payment, workspace, refund, code=code, at=at)
    held_by = await disputes.of_payment(session, payment.id)
    await dispute_money.take_what_is_free(session, payment, held_by)
    await show_overdrawn(session, workspace, payment, at=at)


async def _issue_credit_note(
    session: AsyncSession,
    workspace: Workspace,
    refund: Refund,
    original: Receipt,
    split: RefundSplit,
    clock: Callable[[], datetime],
) -> Receipt:
    kind = DocumentKind.CREDIT_NOTE.value
    place = await receipts.next_place(session, workspace, kind, clock)
    document = credit_note(
        ReceiptDocument.from_json(original.document),
        number=place.number,
        issued_on=place.issued_on,
        amount=split.total,
        vat=split.vat,
        reason=refund.reason or _refund_words(original),
        provider_reference=refund.provider_refund_id,
    )
    row = Receipt(
        id=uuid5(refund.id, "credit-note"),
        workspace_id=workspace.id,
        payment_id=refund.payment_id,
        refund_id=refund.id,
        kind=kind,
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
    session.add(row)
    return row


def _refund_words(original: Receipt) -> str:
    return "זיכוי" if original.document.get("language") == "he" else "Refund"


def _progress_of(refund: Refund, document: Receipt | None) -> RefundProgress:
    return RefundProgress(
        refund.id, RefundState(refund.status), None if document is None else document.id, refund.failure_code
    )
