"""Opening a checkout at the provider."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.errors import as_application_error
from domain.payment import Checkout, PaymentStatus, StartPayment
from providers.base import CheckoutMode, CheckoutRequest, OpenedCheckout, Payer
from providers.pool import ProviderPool
from storage import payments
from storage.models import Payment
from storage.sealing import Sealer
from storage.session import Database

log = structlog.get_logger()


class CheckoutActivities:
    """Creates checkouts; the provider is called between two transactions, never inside one."""

    def __init__(self, database: Database, pool: ProviderPool, sealer: Sealer, now: Callable[[], datetime]) -> None:
        self._database = database
        self._pool = pool
        self._sealer = sealer
        self._now = now

    @activity.defn
    async def open_checkout(self, command: StartPayment) -> Checkout:
        """Create, or find again, the provider's checkout for this payment, and record it.

        Safe to repeat: the provider gets the payment's id as idempotency value (or is asked for it first), and a
        payment whose checkout is on record is answered from there. Raises ApplicationError typed as in
        providers/base.py.
        """
        async with self._database.transaction() as session:
            found = await payments.with_account(session, command.payment_id)
        if found is None:
            raise ApplicationError("no such payment", "payment_not_found", None, type="PaymentNotFound")
        payment, account = found
        if payment.provider_session_id is not None:
            return Checkout(PaymentStatus(payment.status), payment.checkout_url)
        with as_application_error():
            opened = await self._pool.of(account).open_checkout(_request(payment))
        status = await self._record(payment, opened)
        log.info("checkout opened", payment_id=str(payment.id), provider=payment.provider, status=status.value)
        return Checkout(status, opened.url)

    async def _record(self, payment: Payment, opened: OpenedCheckout) -> PaymentStatus:
        async with self._database.transaction() as session:
            locked, workspace = await payments.lock(session, payment.id)
            locked.provider_session_id = opened.session_id
            locked.checkout_url = opened.url
            if opened.client_secret is not None:
                locked.client_secret = self._sealer.seal(opened.client_secret)
            await payments.add_attempt(session, locked, session_id=opened.session_id, status="pending")
            payments.change_status(session, workspace, locked, PaymentStatus.PENDING, at=self._now(), actor="workflow")
            return PaymentStatus(locked.status)


def _request(payment: Payment) -> CheckoutRequest:
    """All of it comes from the row, so every try sends the same."""
    return CheckoutRequest(
        reference=payment.id,
        workspace_id=payment.workspace_id,
        order_id=payment.order_id,
        amount=payment.money,
        description=payment.description,
        mode=CheckoutMode(payment.checkout_mode),
        expires_at=payment.expires_at,
        created_at=payment.created_at,
        success_url=payment.success_url,
        cancel_url=payment.cancel_url,
        payer=Payer(
            id=payment.customer_id,
            name=payment.customer_name,
            email=payment.customer_email,
            document=payment.customer_tax_id,
        ),
        language=payment.language,
    )
