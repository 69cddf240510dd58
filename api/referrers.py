"""Referrers: who they are, what they are owed, and who earns nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, EmailStr, Field, SecretStr, field_validator
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from api.context import Member, ServicesDep, cut_page, decode_cursor, member
from api.fields import Cursor, Day, Id, IpAddress, OneOf, PageSize, RequestBody
from api.idempotency import IdempotencyKey, answer_once
from api.problems import Problem, answers
from domain import fraud
from domain.fraud import Kind
from domain.ledger import owed_to
from domain.money import Money
from domain.statement import POSTINGS, Posting, Statement, statement
from storage import audit, fingerprints, ledger, payments, referrers
from storage.models import Blocked, Referrer, Workspace
from storage.sealing import Sealer

router = APIRouter(tags=["referrers"])
Reader = Annotated[Member, Depends(member("reports:read"))]
Writer = Annotated[Member, Depends(member("commissions:write"))]

MAX_MOVEMENTS = 1_000
"""Listed in one statement; its sums are of all."""
MAX_DETAILS, MAX_DETAIL = 20, 200


class ReferrerChanges(RequestBody):
    """What is known of a referrer. What is left out stays, what is null is forgotten."""

    name: str | None = Field(None, max_length=200, examples=["Noa Bar"])
    email: EmailStr | None = Field(None, examples=["noa@example.com"])
    ip: IpAddress | None = Field(None, description="Where the referrer signed up from, if you know.")
    payout_details: dict[str, SecretStr] | None = Field(
        None, description="Where the money goes, as columns of the payout file.", examples=[{"iban": "IL62…"}]
    )
    status: Literal["active", "suspended"] = Field(
        "active", description="Suspended: new commissions wait for a person, and nothing is paid out."
    )

    @field_validator("payout_details")
    @classmethod
    def _short(cls, value: dict[str, SecretStr] | None) -> dict[str, SecretStr] | None:
        for name, secret in (value or {}).items():
            text = secret.get_secret_value()
            if not (name.isprintable() and 1 <= len(name) <= 40 and text.isprintable() and len(text) <= MAX_DETAIL):  # noqa: PLR2004
                raise ValueError(f"names of 1 to 40 characters, values of at most {MAX_DETAIL}, one line each")
        if value is not None and len(value) > MAX_DETAILS:
            raise ValueError(f"at most {MAX_DETAILS} details")
        return value

    def given(self) -> dict[str, Any]:
        """What was said, in plain values."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set if name != "id"}
        if values.get("ip") is not None:
            values["ip"] = str(values["ip"])
        if values.get("payout_details") is not None:
            values["payout_details"] = {
                name: secret.get_secret_value() for name, secret in values["payout_details"].items()
            }
        return values


class NewReferrer(ReferrerChanges):
    """A referrer to put on record. The id is yours: what payments name as `referrer_id`."""

    id: str = Field(min_length=1, max_length=128, examples=["partner-5"])

    @field_validator("id")
    @classmethod
    def _printable(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("control characters are not allowed")
        return value


class ReferrerOut(BaseModel):
    """A referrer. E-mail and payout details are shown in part only."""

    id: str
    status: str
    name: str | None
    email: str | None = Field(examples=["n…@example.com"])
    knows_ip: bool
    payout_details: dict[str, str] = Field(description="The last characters of each.")
    payout_details_changed_at: datetime | None
    created_at: datetime


class ReferrerPage(BaseModel):
    """A page of referrers, by id."""

    data: list[ReferrerOut]
    next_cursor: str | None = Field(description="The id to go on after.")


class MovementOut(BaseModel):
    """One movement. A positive amount adds to what is owed."""

    at: datetime
    posting: Posting
    kind: str
    amount: str
    payment_id: UUID | None
    movement_id: UUID


class StatementOut(BaseModel):
    """A referrer's account within a period, from the ledger alone; major units.

    `opening + accrued - clawed_back - paid + other = closing`. A negative balance is carried to the next payout.
    """

    referrer_id: str
    since: date
    until: date
    currency: str
    opening: str
    accrued: str
    clawed_back: str
    paid: str
    other: str
    closing: str
    movements: list[MovementOut]
    more: bool = Field(description=f"Whether there are more than the {MAX_MOVEMENTS} that are listed.")


class NewBlock(RequestBody):
    """Something that earns no commission: by its value, or as a payment has it (a card is known by payments only)."""

    kind: OneOf[Kind]
    value: str | None = Field(None, min_length=1, max_length=320, examples=["spam.example"])
    payment_id: Id | None = Field(None, description="Block the payer's card, e-mail, domain or address.")
    reason: str | None = Field(None, max_length=300)


class BlockOut(BaseModel):
    """An entry of the blocklist. `hint` is what is shown of it."""

    id: UUID
    kind: Kind
    hint: str
    reason: str | None
    created_by: str
    created_at: datetime


class BlockPage(BaseModel):
    """A page of the blocklist, newest first."""

    data: list[BlockOut]
    next_cursor: str | None


@router.post(
    "/referrers",
    status_code=201,
    summary="Put a referrer on record",
    responses=answers("already_exists", "idempotency_key_reused"),
)
async def create_referrer(
    body: NewReferrer, caller: Writer, services: ServicesDep, idempotency_key: IdempotencyKey = None
) -> ReferrerOut:
    """Identity and payout details are encrypted at rest. One who has earned already is there: change it instead."""
    at = services.now()

    async def work(session: AsyncSession) -> ReferrerOut:
        row = Referrer(workspace_id=caller.workspace.id, id=body.id, status="active", created_at=at)
        session.add(row)
        await session.flush()
        return await _change(session, services.sealer, caller, row, body.given(), at)

    try:
        return await answer_once(
            services,
            route="POST /referrers",
            scope=f"{caller.workspace.id}:referrers",
            key=idempotency_key,
            request=body,
            answer=ReferrerOut,
            work=work,
        )
    except IntegrityError:
        raise Problem("already_exists", "There is a referrer of this id; PATCH changes it.") from None


@router.patch("/referrers/{referrer_id}", summary="Change a referrer")
async def change_referrer(
    referrer_id: str, body: ReferrerChanges, caller: Writer, services: ServicesDep
) -> ReferrerOut:
    """What is left out stays."""
    async with services.database.transaction() as session:
        row = await referrers.lock(session, caller.workspace.id, referrer_id)
        if row is None:
            raise Problem("not_found", "This workspace has no such referrer.")
        return await _change(session, services.sealer, caller, row, body.given(), services.now())


@router.get("/referrers", summary="List referrers")
async def list_referrers(
    caller: Reader,
    services: ServicesDep,
    limit: PageSize = 20,
    cursor: Annotated[str | None, Query(max_length=128)] = None,
    status: Literal["active", "suspended"] | None = None,
) -> ReferrerPage:
    """By id."""
    async with services.database.transaction() as session:
        rows = await referrers.page(session, caller.workspace.id, limit=limit + 1, after=cursor, status=status)
    shown = rows[:limit]
    return ReferrerPage(
        data=[_out(services.sealer, row) for row in shown], next_cursor=shown[-1].id if len(rows) > limit else None
    )


@router.get("/referrers/{referrer_id}", summary="Read a referrer")
async def read_referrer(referrer_id: str, caller: Reader, services: ServicesDep) -> ReferrerOut:
    """One referrer."""
    async with services.database.transaction() as session:
        row = await referrers.get(session, caller.workspace.id, referrer_id)
    if row is None:
        raise Problem("not_found", "This workspace has no such referrer.")
    return _out(services.sealer, row)


@router.get("/referrers/{referrer_id}/statement", summary="A referrer's statement of account")
async def referrer_statement(
    referrer_id: str,
    caller: Reader,
    services: ServicesDep,
    since: Annotated[Day, Query(alias="from", description="First day, in the workspace's time zone.")],
    until: Annotated[Day, Query(alias="to", description="Last day.")],
) -> StatementOut:
    """Opening balance, accruals, claw-backs, payouts and closing balance, from the ledger alone."""
    async with services.database.transaction() as session:
        return await statement_of(session, caller.workspace, referrer_id, since, until)


async def statement_of(
    session: AsyncSession, workspace: Workspace, referrer_id: str, since: date, until: date
) -> StatementOut:
    """The statement of the days from `since` to `until`, both included. Raises Problem when they are the wrong way."""
    if until < since:
        raise Problem("validation_failed", "to: not before from.")
    account, currency = owed_to(referrer_id), workspace.currency
    begin, end = _midnight(workspace, since, 0), _midnight(workspace, until, 1)
    opening = await ledger.owed(session, workspace.id, account, currency, before=begin)
    sums = await ledger.credits_by_kind(session, workspace.id, account, currency, since=begin, before=end)
    rows = await ledger.entries_on(
        session, workspace.id, account, currency, since=begin, before=end, limit=MAX_MOVEMENTS + 1
    )
    found: Statement = statement(opening, sums)
    return StatementOut(
        referrer_id=referrer_id,
        since=since,
        until=until,
        currency=currency,
        opening=str(found.opening),
        accrued=str(found.accrued),
        clawed_back=str(found.clawed_back),
        paid=str(found.paid),
        other=str(found.other),
        closing=str(found.closing),
        movements=[
            MovementOut(
                at=row.created_at,
                posting=POSTINGS.get(row.kind, Posting.OTHER),
                kind=row.kind,
                amount=str(-Money.from_decimal(row.amount, row.currency)),
                payment_id=row.payment_id,
                movement_id=row.movement_id,
            )
            for row in rows[:MAX_MOVEMENTS]
        ],
        more=len(rows) > MAX_MOVEMENTS,
    )


def _midnight(workspace: Workspace, day: date, later: int) -> datetime:
    """The first moment of a day so many days later, where the workspace is. Raises Problem where no clock reaches."""
    try:
        return datetime.combine(day + timedelta(days=later), time(), ZoneInfo(workspace.timezone)).astimezone(UTC)
    except OverflowError:
        raise Problem("validation_failed", "from, to: days between the years 2 and 9998.") from None


@router.post(
    "/blocklist",
    status_code=201,
    summary="Block a referrer, e-mail, domain, card or address",
    responses=answers("already_exists", "not_found"),
)
async def add_block(body: NewBlock, caller: Writer, services: ServicesDep) -> BlockOut:
    """From now on it earns no commission. Only a keyed hash of it is kept."""
    async with services.database.transaction() as session:
        return _block_out(await block(session, services.sealer, caller.workspace, body, actor=caller.actor))


@router.get("/blocklist", summary="List what is blocked")
async def list_blocks(
    caller: Reader,
    services: ServicesDep,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> BlockPage:
    """Newest first."""
    async with services.database.transaction() as session:
        rows = await referrers.blocklist_page(
            session, caller.workspace.id, limit=limit + 1, before=decode_cursor(cursor)
        )
    shown, more = cut_page(rows, limit)
    return BlockPage(data=[_block_out(row) for row in shown], next_cursor=more)


@router.delete("/blocklist/{block_id}", status_code=204, summary="Take something off the blocklist")
async def remove_block(block_id: UUID, caller: Writer, services: ServicesDep) -> Response:
    """What was refused meanwhile stays refused."""
    async with services.database.transaction() as session:
        if not await referrers.unblock(session, caller.workspace.id, block_id, actor=caller.actor):
            raise Problem("not_found", "This workspace's blocklist has no such entry.")
    return Response(status_code=204)


async def block(session: AsyncSession, sealer: Sealer, workspace: Workspace, body: NewBlock, *, actor: str) -> Blocked:
    """Put something on a workspace's blocklist. Raises Problem when it is none of its kind, or there already."""
    key = await fingerprints.open_key(session, sealer, workspace.id)
    if (body.value is None) == (body.payment_id is None):
        raise Problem("validation_failed", "value: give it, or a payment_id, and not both.")
    before: frozenset[str] = frozenset()
    if body.payment_id is not None:
        value_hash, hint = await _of_payment(session, workspace, key, body.kind, body.payment_id)
    else:
        value = fraud.spellings(body.kind, body.value or "")
        if value is None:
            raise Problem("validation_failed", f"value: not a {body.kind.value}.")
        before = value.before
        value_hash, hint = fraud.trace(key, body.kind, value.today), _hint(body.kind, value.today)
    if await referrers.blocked(
        session, workspace.id, [(body.kind, fraud.trace(key, body.kind, one)) for one in before]
    ):
        raise Problem("already_exists", "It is on the blocklist already.")
    try:
        return await referrers.block(
            session,
            workspace.id,
            kind=body.kind,
            value_hash=value_hash,
            hint=hint,
            reason=body.reason,
            actor=actor,
        )
    except referrers.AlreadyBlocked:
        raise Problem("already_exists", "It is on the blocklist already.") from None


async def _of_payment(
    session: AsyncSession, workspace: Workspace, key: bytes, kind: Kind, payment_id: UUID
) -> tuple[bytes, str]:
    """What a payment is recognised by. Raises Problem when there is no such payment, or it does not know that."""
    payment = await payments.get(session, workspace.id, payment_id)
    if payment is None:
        raise Problem("not_found", "This workspace has no such payment.")
    if kind is Kind.CARD:
        if payment.card_fingerprint is None:
            raise Problem("validation_failed", "payment_id: its provider has told nothing that a card is known by.")
        return payment.card_fingerprint, f"card of payment {payment_id}"
    known = {
        Kind.REFERRER: payment.referrer_id,
        Kind.EMAIL: payment.customer_email,
        Kind.DOMAIN: payment.customer_email,
        Kind.IP: payment.customer_ip,
        Kind.IP_RANGE: payment.customer_ip,
    }[kind]
    value = None if known is None else fraud.blockable(kind, known)
    if value is None:
        raise Problem("validation_failed", f"payment_id: nothing is known of its {kind.value}.")
    return fraud.trace(key, kind, value), _hint(kind, value)


def _hint(kind: Kind, value: str) -> str:
    """What is shown of a blocked thing: ids, domains and networks as they are, what is personal in part."""
    if kind is Kind.EMAIL or (kind is Kind.REFERRER and "@" in value):
        return referrers.masked(value)
    if kind is Kind.IP:
        return f"an address in {fraud.ip_range(value)}"
    return "a card" if kind is Kind.CARD else value


async def _change(
    session: AsyncSession, sealer: Sealer, caller: Member, row: Referrer, changes: dict[str, Any], at: datetime
) -> ReferrerOut:
    key = await fingerprints.open_key(session, sealer, caller.workspace.id)
    referrers.identify(sealer, key, row, changes, at=at)
    audit.record(
        session,
        caller.workspace.id,
        actor=caller.actor,
        action="referrer.changed",
        subject=("referrer", uuid5(caller.workspace.id, f"referrer:{row.id}")),  # an id may be an e-mail
        details={"changed": sorted(changes), "status": row.status},
    )
    return _out(sealer, row)


def _out(sealer: Sealer, row: Referrer) -> ReferrerOut:
    identity = {} if row.identity is None else sealer.open_mapping(row.identity)
    details = {} if row.payout_details is None else sealer.open_mapping(row.payout_details)
    return ReferrerOut(
        id=row.id,
        status=row.status,
        name=identity.get("name"),
        email=row.email_hint,
        knows_ip=row.ip_hash is not None,
        payout_details={name: f"…{value[-4:]}" if len(value) > 8 else "…" for name, value in details.items()},  # noqa: PLR2004
        payout_details_changed_at=row.payout_details_at,
        created_at=row.created_at,
    )


def _block_out(row: Blocked) -> BlockOut:
    return BlockOut(
        id=row.id,
        kind=Kind(row.kind),
        hint=row.hint,
        reason=row.reason,
        created_by=row.created_by,
        created_at=row.created_at,
    )
