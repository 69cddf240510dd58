"""`process-refund` and `settle-refund`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import click
from pydantic import ValidationError

import wiring
from api.problems import Problem, words_of
from api.refunds import NewRefund, SettleOutside, accept, rehearse, rehearse_settling, settle
from cli.context import ACTOR, ID, ShortText, as_json, effects, facts, fail, with_database
from domain.money import Money
from domain.refund import RefundState, StartRefund
from engine.client import connect
from engine.payments import EngineUnavailable, PaymentEngine
from settings import Settings
from storage import refunds
from storage.models import Payment, Refund
from storage.session import Database

FIRST_ANSWER_SECONDS = 20.0


@click.command("process-refund")
@click.argument("payment_id", type=ID)
@click.option("--amount", help="Major units, for example 29.90; all that is left, if not given.")
@click.option("--reason", type=ShortText(300), help="Printed on the credit note.")
@click.option("--key", type=ShortText(255), help="Names this refund: a repeat with the same key refunds once.")
@click.option("--dry-run", is_flag=True, help="Say what it would do, and do nothing.")
@click.option("--json", "json_output", is_flag=True, help="Machine-readable.")
def process_refund(
    payment_id: UUID, amount: str | None, reason: str | None, key: str | None, *, dry_run: bool, json_output: bool
) -> None:
    """Refund a payment, in full or in part. A repeat with --key is the same refund."""
    body = NewRefund(payment_id=payment_id, amount=amount, reason=reason)

    async def work(database: Database, settings: Settings) -> dict[str, Any]:
        pool = wiring.provider_pool(settings, wiring.sealer(settings))
        try:
            async with database.transaction() as session:
                payment = await session.get(Payment, payment_id)
            if payment is None:
                fail(f"There is no payment {payment_id}.")
            if dry_run:
                return (await rehearse(database, pool, payment.workspace_id, body, actor=ACTOR)).model_dump()
            async with database.transaction() as session:
                refund, _ = await accept(session, pool, payment.workspace_id, body, actor=ACTOR, key=key)
        except Problem as problem:
            fail(problem.detail)
        finally:
            await pool.close()
        started = await start_refund(settings, refund)
        async with database.transaction() as session:
            row = await refunds.get(session, refund.id)
        assert row is not None  # noqa: S101  (written above)
        return _facts(row, started=started)

    found = with_database(work)
    _show(found, "Would be refunded", dry_run=dry_run, json_output=json_output)
    if found.get("status") == RefundState.FAILED:
        fail(f"The provider refused it: {found['failure']}. Nothing was refunded.")


@click.command("settle-refund")
@click.argument("refund_id", type=ID)
@click.option("--reference", required=True, type=ShortText(200), help="Names the payment by other means.")
@click.option("--dry-run", is_flag=True, help="Say what it would do, and do nothing.")
@click.option("--json", "json_output", is_flag=True, help="Machine-readable.")
def settle_refund(refund_id: UUID, reference: str, *, dry_run: bool, json_output: bool) -> None:
    """Record that a refund which came back was paid by other means; the same reference again changes nothing."""
    try:
        body = SettleOutside(reference=reference)
    except ValidationError as error:
        fail(f"--reference: {words_of(dict(error.errors()[0]))}")

    async def work(database: Database, _: Settings) -> dict[str, Any]:
        at = datetime.now(UTC)
        async with database.transaction() as session:
            found = await refunds.get(session, refund_id)
        if found is None:
            fail(f"There is no refund {refund_id}.")
        try:
            if dry_run:
                done = await rehearse_settling(database, found.workspace_id, refund_id, body, actor=ACTOR, at=at)
                return done.model_dump()
            async with database.transaction() as session:
                row = await settle(session, found.workspace_id, refund_id, body, actor=ACTOR, at=at)
                return _settled(row)
        except Problem as problem:
            fail(problem.detail)

    _show(with_database(work), "Would be settled", dry_run=dry_run, json_output=json_output)


def _show(found: dict[str, Any], preview: str, *, dry_run: bool, json_output: bool) -> None:
    if json_output:
        as_json(found)
    elif dry_run:
        effects(preview, found)
    else:
        facts("Refund", found)


def _settled(row: Refund) -> dict[str, Any]:
    return {
        "id": row.id,
        "payment": row.payment_id,
        "status": row.status,
        "amount": row.money,
        "currency": row.currency,
        "reference": row.outside_reference,
    }


async def start_refund(settings: Settings, refund: Refund) -> bool:
    """Start the workflow; where Temporal is away the worker does it later."""
    try:
        async with asyncio.timeout(FIRST_ANSWER_SECONDS + 5):
            client = await connect(wiring.temporal_target(settings))
            engine = PaymentEngine(client, settings.temporal_task_queue)
            command = StartRefund(refund.id, refund.payment_id)
            await engine.start_refund(command, wait=timedelta(seconds=FIRST_ANSWER_SECONDS))
    except (EngineUnavailable, TimeoutError, RuntimeError):
        return False
    return True


def _facts(row: Refund, *, started: bool) -> dict[str, Any]:
    return {
        "id": row.id,
        "payment": row.payment_id,
        "status": row.status,
        "amount": row.money,
        "currency": row.currency,
        "failure": row.failure_code or "none",
        "commission_clawed_back": None if row.commission is None else Money.from_decimal(row.commission, row.currency),
        "next": "nothing" if started else "Temporal is away: the worker starts it within a minute of its return",
    }
