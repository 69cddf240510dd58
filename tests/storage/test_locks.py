"""Row locks: what is locked is the row as it is now, whatever the session has read before."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from storage import payments, refunds, surplus
from storage.models import Attempt, Payment, Refund, SurplusCapture
from tests.storage.test_settlement import new_payments
from tests.support.service import Service, Shop


async def test_a_lock_shows_what_others_have_written_since_the_row_was_read(service: Service, shop: Shop) -> None:
    """What is decided under a lock must not rest on what was read before it: two refunds would reserve the same."""
    (payment_id,) = await new_payments(shop, 1)
    refund_id, surplus_id = uuid4(), uuid4()
    of_payment = {"workspace_id": shop.workspace.id, "payment_id": payment_id, "provider": "stripe", "currency": "ILS"}
    async with service.database.transaction() as session:
        attempt = Attempt(
            payment_id=payment_id,
            number=1,
            reference=payment_id,
            provider="stripe",
            provider_account_id=shop.account.id,
            status="paid",
        )
        session.add(attempt)
        await session.flush()
        session.add(Refund(id=refund_id, amount=1, requested_by="test", **of_payment))
        session.add(
            SurplusCapture(
                id=surplus_id,
                attempt_id=attempt.id,
                transaction_id=str(surplus_id),
                amount=1,
                reason="second_capture",
                **of_payment,
            )
        )
    async with service.database.transaction() as mine:
        read = [
            await mine.get(model, key)
            for model, key in ((Payment, payment_id), (Refund, refund_id), (SurplusCapture, surplus_id))
        ]
        assert None not in read
        async with service.database.transaction() as others:
            payment, _ = await payments.lock(others, payment_id)
            payment.refund_reserved = payment.amount
            (await refunds.lock(others, refund_id)).asked_at = datetime.now(UTC)
            (await surplus.lock(others, surplus_id))[0].status = "kept"
        locked, _ = await payments.lock(mine, payment_id)
        assert refunds.left_of(locked).minor == 0
        assert (await refunds.lock(mine, refund_id)).asked_at is not None
        assert (await surplus.lock(mine, surplus_id))[0].status == "kept"
