"""`commissions report`, `list`, `pay`, `review` and `statement`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncSession

from cli.context import ACTOR, ID, ShortText, as_json, fail, in_database, table, with_database, workspace_named
from cli.payouts import Wanted, run_batch
from cli.referrers import statement
from domain.commission import CommissionState, CommissionStatus
from domain.money import Money
from settings import Settings
from storage import commissions as book
from storage.models import Commission
from storage.rehearsal import rehearsal
from storage.session import Database

MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])
FILE = click.Path(dir_okay=False, path_type=Path)


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
@click.argument("commission_id", type=ID, required=False)
@click.option("--workspace", "slug", required=True)
@click.option(
    "--reference",
    type=ShortText(200),
    help="How it was paid, for example the bank's reference; why it failed or came back.",
)
@click.option("--dry-run", is_flag=True, help="Say what it would do, and do nothing.")
@click.option("--payout", "payout_id", type=ID, help="A batch by its id; the open one, if not given.")
@click.option("--cut-off", type=MOMENT, help="What has vested by then (UTC); by now, if not given.")
@click.option("--approve", is_flag=True, help="Approve the batch.")
@click.option("--reject", type=ShortText(300), metavar="REASON", help="Give the batch up.")
@click.option("--export", type=FILE, metavar="FILE", help="Write the approved batch's file for the bank.")
@click.option("--results", type=FILE, metavar="FILE", help="Take in a file of results: line_id, result, reference.")
@click.option("--paid", type=ID, metavar="LINE", help="A line was paid.")
@click.option("--failed", type=ID, metavar="LINE", help="A line could not be paid.")
@click.option("--returned", type=ID, metavar="LINE", help="A line that was paid came back from the bank.")
@click.option("--json", "json_output", is_flag=True)
def pay(commission_id: UUID | None, slug: str, *, dry_run: bool, json_output: bool, **chosen: Any) -> None:
    """Pay a batch, or book one commission as paid by hand.

    Without COMMISSION_ID: prepares a batch of all that is payable, or takes up the open one, then approves it, writes
    its file and records results, as far as you say.
    """
    if chosen["approve"] and chosen["reject"]:
        raise click.UsageError("approve or reject, not both")
    if commission_id is None:
        if chosen["reference"] and not (chosen["paid"] or chosen["failed"] or chosen["returned"]):
            raise click.UsageError("--reference goes with a commission, --paid, --failed or --returned")
        if dry_run and chosen["export"]:
            raise click.UsageError("--dry-run goes with all but --export, which changes nothing")
        cut_off = chosen.pop("cut_off")
        moment = None if cut_off is None else cut_off.replace(tzinfo=UTC)
        run_batch(slug, Wanted(cut_off=moment, dry_run=dry_run, **chosen), json_output=json_output)
        return
    if any(value for name, value in chosen.items() if name != "reference"):
        raise click.UsageError("of a single commission only --reference and --dry-run can be said")
    _pay_one(commission_id, slug, chosen["reference"], dry_run=dry_run, json_output=json_output)


def _pay_one(commission_id: UUID, slug: str, reference: str | None, *, dry_run: bool, json_output: bool) -> None:
    at = datetime.now(UTC)

    async def book_it(session: AsyncSession) -> None:
        workspace = await workspace_named(session, slug)
        await book.mark_paid(session, workspace.id, commission_id, reference=reference, actor=ACTOR, at=at)

    async def work(database: Database, _: Settings) -> list[dict[str, Any]]:
        try:
            if dry_run:
                async with rehearsal(database) as (session, effects):
                    await book_it(session)
                return effects.ledger
            async with database.transaction() as session:
                await book_it(session)
                await session.flush()
                workspace = await workspace_named(session, slug)
                return [_row(*await book.get(session, workspace.id, commission_id, at=at))]
        except book.CommissionNotFound:
            fail(f"{slug} has no commission {commission_id}; see payment-cli commissions list.")
        except tuple(_WORDS) as refused:
            fail(_WORDS[type(refused)])

    rows = with_database(work)
    as_json(rows) if json_output else table("Would be booked" if dry_run else "Paid", rows)


_WORDS: dict[type[Exception], str] = {
    book.CommissionClawedBack: "Refunds of the order have taken all of it.",
    book.CommissionAlreadyPaid: "It was paid before, under another reference; see payment-cli commissions list.",
    book.CommissionHeld: "It is held: a review or a dispute is undecided, or the referrer is suspended.",
    book.CommissionInPayout: "An unfinished payout batch has it.",
    book.CommissionRejected: "A review has refused it.",
}


@commissions.command("review")
@click.argument("commission_id", type=ID)
@click.option("--workspace", "slug", required=True)
@click.option("--approve", "approve", flag_value="approve", help="It vests like any other.")
@click.option("--reject", "approve", flag_value="reject", help="It is owed to nobody.")
@click.option("--reason", type=ShortText(300), required=True)
@click.option("--dry-run", is_flag=True, help="Say what it would book, and do nothing.")
@click.option("--json", "json_output", is_flag=True)
def review(
    commission_id: UUID, slug: str, approve: str | None, reason: str, *, dry_run: bool, json_output: bool
) -> None:
    """Decide on a commission that a fraud guard holds; see commissions list --state held."""
    if approve is None:
        raise click.UsageError("say --approve or --reject")
    at = datetime.now(UTC)

    async def decide(session: AsyncSession) -> UUID:
        workspace = await workspace_named(session, slug)
        await book.review(
            session, workspace.id, commission_id, approve=approve == "approve", reason=reason, actor=ACTOR, at=at
        )
        return workspace.id

    async def work(database: Database, _: Settings) -> list[dict[str, Any]]:
        try:
            if dry_run:
                async with rehearsal(database) as (session, effects):
                    await decide(session)
                return effects.ledger
            async with database.transaction() as session:
                workspace_id = await decide(session)
                await session.flush()
                return [_row(*await book.get(session, workspace_id, commission_id, at=at))]
        except book.CommissionNotFound:
            fail(f"{slug} has no commission {commission_id}; see payment-cli commissions list.")
        except book.NotUnderReview:
            fail("No guard holds it, or it was decided otherwise before.")

    rows = with_database(work)
    as_json(rows) if json_output else table("Would be booked" if dry_run else "Reviewed", rows)


commissions.add_command(statement)


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
