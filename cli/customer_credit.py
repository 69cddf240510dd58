"""`credit-info`, `credit-payout`, `credit-withdraw` and `credit-write-off`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import click
from pydantic import BaseModel, ValidationError

import wiring
from api.customer_credit import (
    CreditOut,
    CreditPayout,
    CreditWithdrawal,
    CreditWriteOff,
    pay_out,
    rehearse_payout,
    rehearse_withdrawal,
    rehearse_write_off,
    shown,
    withdraw,
    write_off,
)
from api.problems import Problem, words_of
from cli.context import ACTOR, ID, ShortText, as_json, effects, facts, fail, table, with_database, workspace_named
from cli.refunds import start_refund
from settings import Settings
from storage import credit, workspaces
from storage.models import Payment
from storage.session import Database

Body = TypeVar("Body", bound=BaseModel)
Work = Callable[[Database, Settings], Awaitable[dict[str, Any]]]
customer = click.argument("customer_id", type=ShortText(128))
of_workspace = click.option("--workspace", "slug", required=True, help="Whose customer it is.")
some = click.option("--amount", help="Major units, for example 29.90; all there is, if not given.")
dry = click.option("--dry-run", is_flag=True, help="Say what it would do, and do nothing.")
machine = click.option("--json", "json_output", is_flag=True, help="Machine-readable.")


@click.command("credit-info")
@customer
@of_workspace
@machine
def credit_info(customer_id: str, slug: str, *, json_output: bool) -> None:
    """A customer's credit: the payments that it comes from, and its turns."""

    async def work(database: Database, _: Settings) -> dict[str, Any]:
        async with database.transaction() as session:
            workspace = await workspace_named(session, slug)
            owners = await credit.owners(session, workspace.id, customer_id)
            return {"data": [(await shown(session, owner)).model_dump() for owner in owners]}

    found = with_database(work)
    if not found["data"]:
        fail(f"No credit of a customer {customer_id} is on record.")
    _show(found, "Credit", dry_run=False, json_output=json_output)


@click.command("credit-payout")
@customer
@of_workspace
@some
@click.option("--reason", type=ShortText(300), help="Printed on the credit notes.")
@dry
@machine
def credit_payout(
    customer_id: str, slug: str, amount: str | None, reason: str | None, *, dry_run: bool, json_output: bool
) -> None:
    """Pay a customer's credit out. The payments that it comes from are refunded, each by its part."""
    body = _read(CreditPayout, customer_id=customer_id, amount=amount, reason=reason)

    async def work(database: Database, settings: Settings) -> dict[str, Any]:
        pool = wiring.provider_pool(settings, wiring.sealer(settings))
        try:
            async with database.transaction() as session:
                workspace = await workspace_named(session, slug)
            if dry_run:
                return (await rehearse_payout(database, pool, workspace, body, actor=ACTOR)).model_dump()
            async with database.transaction() as session:
                done = await pay_out(session, pool, workspace, body, actor=ACTOR)
        finally:
            await pool.close()
        started = [await start_refund(settings, one) for one in done.refunds]
        return {
            "customer": customer_id,
            "amount": str(done.amount),
            "currency": done.owner.currency,
            "refunds": [{"id": one.id, "payment": one.payment_id, "amount": one.money} for one in done.refunds],
            "not_paid_out": [one.model_dump() for one in done.stays],
            "next": "nothing" if all(started) else "Temporal is away: the worker starts the rest when it is back",
        }

    _show(_done(work), "Would be paid out", dry_run=dry_run, json_output=json_output)


@click.command("credit-withdraw")
@customer
@of_workspace
@some
@click.option("--reason", required=True, type=ShortText(300), help="Kept in the audit log.")
@dry
@machine
def credit_withdraw(
    customer_id: str, slug: str, amount: str | None, reason: str, *, dry_run: bool, json_output: bool
) -> None:
    """Take credit from a customer. Nobody is paid."""
    body = _read(CreditWithdrawal, customer_id=customer_id, amount=amount, reason=reason)

    async def work(database: Database, _: Settings) -> dict[str, Any]:
        at = datetime.now(UTC)
        async with database.transaction() as session:
            workspace = await workspace_named(session, slug)
        if dry_run:
            return (await rehearse_withdrawal(database, workspace, body, actor=ACTOR, at=at)).model_dump()
        async with database.transaction() as session:
            return _listed(await withdraw(session, workspace, body, actor=ACTOR, at=at))

    _show(_done(work), "Would be withdrawn", dry_run=dry_run, json_output=json_output)


@click.command("credit-write-off")
@click.argument("payment_id", type=ID)
@click.option("--reason", required=True, type=ShortText(300), help="Kept in the audit log.")
@dry
@machine
def credit_write_off(payment_id: UUID, reason: str, *, dry_run: bool, json_output: bool) -> None:
    """Bear the loss of credit that was used before its money went back."""
    body = _read(CreditWriteOff, payment_id=payment_id, reason=reason)

    async def work(database: Database, _: Settings) -> dict[str, Any]:
        at = datetime.now(UTC)
        async with database.transaction() as session:
            payment = await session.get(Payment, payment_id)
            workspace = None if payment is None else await workspaces.get(session, payment.workspace_id)
        if workspace is None:
            fail(f"There is no payment {payment_id}.")
        if dry_run:
            return (await rehearse_write_off(database, workspace, body, actor=ACTOR, at=at)).model_dump()
        async with database.transaction() as session:
            return _listed(await write_off(session, workspace, body, actor=ACTOR, at=at))

    _show(_done(work), "Would be written off", dry_run=dry_run, json_output=json_output)


def _read(model: type[Body], **values: Any) -> Body:
    """The request as the API reads it. Raises CliError."""
    try:
        return model(**values)
    except ValidationError as error:
        fault = error.errors()[0]
        fail(f"{fault['loc'][0]}: {words_of(dict(fault))}")


def _done(work: Work) -> dict[str, Any]:
    async def guarded(database: Database, settings: Settings) -> dict[str, Any]:
        try:
            return await work(database, settings)
        except Problem as problem:
            fail(problem.detail)

    return with_database(guarded)


def _listed(out: CreditOut) -> dict[str, Any]:
    return {"data": [out.model_dump()]}


def _show(found: dict[str, Any], title: str, *, dry_run: bool, json_output: bool) -> None:
    if json_output:
        as_json(found)
    elif dry_run or "data" not in found:
        effects(title if dry_run else "Credit paid out", found)
    else:
        for one in found["data"]:
            facts("Credit", {name: value for name, value in one.items() if not isinstance(value, list)})
            table("Sources", one["sources"])
            table("Entries", one["entries"])
