"""`review`: what waits for a person, and the decision on it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
from pydantic import ValidationError

import wiring
from api.problems import Problem, words_of
from api.reviews import Desk, PaymentDecision, ReviewDone, set_off
from cli.context import ACTOR, ID, ShortText, as_json, effects, facts, fail, table, with_database
from domain.review import REVIEWS, ReviewAction, ReviewReason
from engine.client import connect
from engine.payments import PaymentEngine
from settings import Settings
from storage import payments
from storage.models import Payment
from storage.session import Database

LISTED = 200


@click.command("review")
@click.argument("payment_id", type=ID, required=False)
@click.argument("action", type=click.Choice([one.value for one in ReviewAction]), required=False)
@click.option("--amount", help="With accept: how much came, where the provider vouches for no amount.")
@click.option("--reference", type=ShortText(200), help="With close: names the payment by other means.")
@click.option("--note", type=ShortText(300), help="Why; kept on the audit log.")
@click.option("--dry-run", is_flag=True, help="Ask the provider, say what it would do, and do nothing.")
@click.option("--json", "json_output", is_flag=True, help="Machine-readable.")
def review(
    payment_id: UUID | None, action: str | None, *, dry_run: bool, json_output: bool, **given: str | None
) -> None:
    """Decide on a payment that waits for a person.

    Without an action: why it waits, and what each action does. Without a payment: all that wait. A repeat finds that
    nothing waits any more.
    """
    if payment_id is None:
        _list(json_output=json_output)
        return
    if action is None:
        _explain(payment_id, json_output=json_output)
        return
    try:
        body = PaymentDecision(action=ReviewAction(action), **given)
    except ValidationError as error:
        fault = error.errors()[0]
        fail(f"--{fault['loc'][0]}: {words_of(dict(fault))}")

    async def work(database: Database, settings: Settings) -> dict[str, Any]:
        await _waiting(database, payment_id)
        sealer, at = wiring.sealer(settings), datetime.now(UTC)
        pool = wiring.provider_pool(settings, sealer)
        desk = Desk(database, pool, sealer)
        try:
            if dry_run:
                return (await desk.rehearse(payment_id, body, actor=ACTOR, at=at)).model_dump()
            found = await desk.facts(payment_id, at=at)
            async with database.transaction() as session:
                done = await desk.decide(session, payment_id, body, found, actor=ACTOR, at=at)
        except Problem as problem:
            fail(problem.detail)
        finally:
            await pool.close()
        return _facts(done, started=await _started(settings, done))

    shown = with_database(work)
    if json_output:
        as_json(shown)
    elif dry_run:
        effects("Would be decided", shown)
    else:
        facts("Decided", shown)


def _list(*, json_output: bool) -> None:
    async def work(database: Database, _: Settings) -> list[dict[str, Any]]:
        async with database.transaction() as session:
            rows = await payments.waiting_for_review(session, limit=LISTED)
        return [
            {
                "payment": row.id,
                "status": row.status,
                "review_reason": row.flag,
                "amount": row.money,
                "currency": row.currency,
                "order": row.order_id,
                "since": row.updated_at,
            }
            for row in rows
        ]

    rows = with_database(work)
    if json_output:
        as_json(rows)
    else:
        table("Waiting for a decision", rows)


def _explain(payment_id: UUID, *, json_output: bool) -> None:
    async def work(database: Database, _: Settings) -> dict[str, Any]:
        payment = await _waiting(database, payment_id)
        if payment.flag is None:
            fail(f"Nothing of payment {payment_id} waits for a decision.")
        told = REVIEWS[ReviewReason(payment.flag)]
        acts = {act.value: does for act, does in told.acts.items()}
        return {"payment": payment.id, "status": payment.status, "reason": payment.flag, "meaning": told.meaning} | acts

    found = with_database(work)
    if json_output:
        as_json(found)
    else:
        facts("Waits for a decision", found)


async def _waiting(database: Database, payment_id: UUID) -> Payment:
    async with database.transaction() as session:
        payment = await session.get(Payment, payment_id)
    if payment is None:
        fail(f"There is no payment {payment_id}.")
    return payment


async def _started(settings: Settings, done: ReviewDone) -> bool:
    """Where Temporal is away the worker goes on later."""
    try:
        client = await connect(wiring.temporal_target(settings))
        return await set_off(PaymentEngine(client, settings.temporal_task_queue), done)
    except (TimeoutError, RuntimeError):
        return False


def _facts(done: ReviewDone, *, started: bool) -> dict[str, Any]:
    return {
        "payment": done.payment_id,
        "decided": f"{done.reviewed_reason.value}: {done.action.value}",
        "status": done.status.value,
        "waits_for": None if done.review_reason is None else done.review_reason.value,
        "refunding": [str(one) for one in done.refunding],
        "next": "nothing" if started else "Temporal is away: the worker goes on within a minute of its return",
    }
