"""`commissions report`, `list` and `pay`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncSession

from cli.context import ACTOR, ID, ShortText, as_json, fail, in_database, table, workspace_named
from domain.commission import CommissionState, CommissionStatus
from domain.money import Money
from settings import Settings
from storage import commissions as book
from storage.models import Commission


@click.group("commissions")
def commissions() -> None:
    """Referral commissions."""


@commissions.command("report")
@click.option("--workspace", "slug", required=True)
@click.option("--referrer", help="Of one referrer.")
@click.option("--json", "json_output", is_flag=True)
def report(slug: str, referrer: str | None, *, json_output: bool) -> None:
    """Counts and totals by status."""

    async def work(session: AsyncSession, _: Settings) -> list[dict[str, Any]]:
        workspace = await workspace_named(session, slug)
        return [
            {
                "status": total.status,
                "count": total.count,
                "amount": str(total.amount),
                "clawed_back": str(total.clawed_back),
                "orders": str(total.orders_total),
                "currency": total.amount.currency,
            }
            for total in await book.totals(session, workspace.id, referrer)
        ]

    rows = in_database(work)
    as_json(rows) if json_output else table("Commissions", rows)


@commissions.command("list")
@click.option("--workspace", "slug", required=True)
@click.option("--referrer", help="Of one referrer.")
@click.option("--status", type=click.Choice([status.value for status in CommissionStatus]))
@click.option("--state", type=click.Choice([state.value for state in CommissionState]), help="Where it stands now.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--json", "json_output", is_flag=True)
def list_commissions(
    slug: str, referrer: str | None, status: str | None, state: str | None, limit: int, *, json_output: bool
) -> None:
    """The latest, newest first."""

    async def work(session: AsyncSession, _: Settings) -> list[dict[str, Any]]:
        workspace = await workspace_named(session, slug)
        rows = await book.page(
            session,
            workspace.id,
            limit=limit,
            at=datetime.now(UTC),
            referrer_id=referrer,
            status=status,
            state=state,
        )
        return [_row(*row) for row in rows]

    rows = in_database(work)
    as_json(rows) if json_output else table("Commissions", rows)


@commissions.command("pay")
@click.argument("commission_id", type=ID)
@click.option("--workspace", "slug", required=True)
@click.option("--reference", type=ShortText(200), help="How it was paid, for example the bank's reference.")
def pay(commission_id: UUID, slug: str, reference: str | None) -> None:
    """Book a commission as paid out, once."""

    async def work(session: AsyncSession, _: Settings) -> dict[str, Any]:
        workspace = await workspace_named(session, slug)
        try:
            at = datetime.now(UTC)
            await book.mark_paid(session, workspace.id, commission_id, reference=reference, actor=ACTOR, at=at)
            await session.flush()
            return _row(*await book.get(session, workspace.id, commission_id, at=at))
        except book.CommissionNotFound:
            fail(f"{slug} has no commission {commission_id}; see payment-cli commissions list.")
        except book.CommissionClawedBack:
            fail("Refunds of the order have taken all of it.")
        except book.CommissionAlreadyPaid:
            fail("It was paid before, under another reference; see payment-cli commissions list.")
        except book.CommissionHeld:
            fail("It is held: a review or a dispute is undecided, or the referrer is suspended.")
        except book.CommissionInPayout:
            fail("An unfinished payout batch has it.")
        except book.CommissionRejected:
            fail("A review has refused it.")

    table("Paid", [in_database(work)])


def _row(row: Commission, state: CommissionState) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "referrer": row.referrer_id,
        "order": row.order_id,
        "amount": str(Money.from_decimal(row.amount, row.currency)),
        "clawed_back": str(Money.from_decimal(row.clawed_back, row.currency)),
        "currency": row.currency,
        "status": row.status,
        "state": state.value,
        "vests": row.vests_at,
        "held_by": list(row.held_by),
        "reference": row.payout_reference,
        "created": row.created_at,
    }
