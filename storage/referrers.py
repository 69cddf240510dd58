"""Referrers, what they are recognised by, and the blocklist."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, literal, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from domain.fraud import Kind, ip_range, normal_ip, trace
from domain.mailbox import normal_email
from storage import audit
from storage.models import Blocked, Commission, Payment, PaymentMethod, Referrer
from storage.paging import newest_first
from storage.sealing import Sealer

OWN_PAYMENTS = 50
"""How many of a referrer's own payments are looked at for its addresses, newest first."""


class AlreadyBlocked(Exception):
    """It is on the list."""


async def ensure(session: AsyncSession, workspace_id: UUID, referrer_id: str) -> None:
    """A row for a referrer who earns a first commission."""
    await session.execute(insert(Referrer).values(workspace_id=workspace_id, id=referrer_id).on_conflict_do_nothing())


async def get(session: AsyncSession, workspace_id: UUID, referrer_id: str) -> Referrer | None:
    """One referrer of one workspace."""
    return await session.get(Referrer, (workspace_id, referrer_id))


async def lock(session: AsyncSession, workspace_id: UUID, referrer_id: str) -> Referrer | None:
    """The same under its row lock."""
    return await session.get(Referrer, (workspace_id, referrer_id), with_for_update=True, populate_existing=True)


async def page(
    session: AsyncSession, workspace_id: UUID, *, limit: int, after: str | None = None, status: str | None = None
) -> Sequence[Referrer]:
    """By id."""
    query = select(Referrer).where(Referrer.workspace_id == workspace_id)
    if after is not None:
        query = query.where(Referrer.id > after)
    if status is not None:
        query = query.where(Referrer.status == status)
    return (await session.scalars(query.order_by(Referrer.id).limit(limit))).all()


def masked(email: str) -> str:
    """As much of an e-mail as is shown: `d…@example.com`."""
    local, _, domain = email.strip().rpartition("@")
    return f"{local[:1]}…@{domain}"[:64]


def identify(
    sealer: Sealer,
    key: bytes,
    referrer: Referrer,
    changes: Mapping[str, str | Mapping[str, str] | None],
    *,
    at: datetime,
) -> None:
    """Take over what is given of name, email, ip, status and payout_details; what is None is forgotten."""
    known = {} if referrer.identity is None else sealer.open_mapping(referrer.identity)
    for name in ("name", "email"):
        if name in changes:
            value = changes[name]
            known.pop(name, None)
            if isinstance(value, str):
                known[name] = value
    referrer.identity = sealer.seal_mapping(known) if known else None
    if "email" in changes:
        email = known.get("email")
        mailbox = None if email is None else normal_email(email)
        referrer.email_hint = None if email is None else masked(email)
        referrer.email_hash = None if mailbox is None else trace(key, Kind.EMAIL, mailbox)
    if "ip" in changes:
        given = changes["ip"]
        address, network = (normal_ip(given), ip_range(given)) if isinstance(given, str) else (None, None)
        referrer.ip_hash = None if address is None else trace(key, Kind.IP, address)
        referrer.ip_range_hash = None if network is None else trace(key, Kind.IP_RANGE, network)
    if "payout_details" in changes:
        details = changes["payout_details"]
        referrer.payout_details = sealer.seal_mapping(details) if isinstance(details, Mapping) and details else None
        referrer.payout_details_at = at
    status = changes.get("status")
    if isinstance(status, str):
        referrer.status = status
    referrer.updated_at = at


@dataclass(frozen=True, slots=True)
class Familiar:
    """What the books know of a referrer as a payer. Addresses are in clear: they are compared, not kept."""

    cards: frozenset[bytes]
    ips: frozenset[str]


async def as_payer(session: AsyncSession, workspace_id: UUID, referrer_id: str, emails: Collection[bytes]) -> Familiar:
    """Cards and addresses of payments that the referrer made (by customer id or e-mail), and its saved cards."""
    own = [Payment.customer_id == referrer_id]
    if emails:
        own.append(Payment.payer_fingerprint.in_(emails))
    paid = (
        select(Payment.card_fingerprint, Payment.customer_ip)
        .where(Payment.workspace_id == workspace_id, or_(*own))
        .where(or_(Payment.card_fingerprint.is_not(None), Payment.customer_ip.is_not(None)))
        .order_by(Payment.created_at.desc())
        .limit(OWN_PAYMENTS)
        .subquery()
    )
    saved = (
        select(PaymentMethod.fingerprint, literal(None))
        .where(PaymentMethod.workspace_id == workspace_id, PaymentMethod.customer_id == referrer_id)
        .where(PaymentMethod.fingerprint.is_not(None))
        .limit(OWN_PAYMENTS)
    )
    rows = (await session.execute(select(paid).union_all(saved))).all()
    return Familiar(frozenset(card for card, _ in rows if card), frozenset(ip for _, ip in rows if ip))


async def commissions_since(
    session: AsyncSession, workspace_id: UUID, referrer_id: str, *, at: datetime, hours: int, limit: int
) -> int:
    """How many commissions a referrer has earned within the window, counted up to the limit."""
    recent = (
        select(Commission.id)
        .where(
            Commission.workspace_id == workspace_id,
            Commission.referrer_id == referrer_id,
            Commission.created_at > at - timedelta(hours=hours),
        )
        .limit(limit)
        .subquery()
    )
    return int(await session.scalar(select(func.count()).select_from(recent)) or 0)


async def blocked(session: AsyncSession, workspace_id: UUID, hashes: Sequence[tuple[Kind, bytes]]) -> list[Kind]:
    """Which of these are on the blocklist."""
    query = select(Blocked.kind).where(
        Blocked.workspace_id == workspace_id,
        tuple_(Blocked.kind, Blocked.value_hash).in_([(kind.value, value) for kind, value in hashes]),
    )
    found = set(await session.scalars(query))
    return [kind for kind in dict.fromkeys(kind for kind, _ in hashes) if kind.value in found]


async def block(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    kind: Kind,
    value_hash: bytes,
    hint: str,
    reason: str | None,
    actor: str,
) -> Blocked:
    """Put something on the list. Raises AlreadyBlocked."""
    made: Blocked | None = await session.scalar(
        insert(Blocked)
        .values(
            id=uuid7(),
            workspace_id=workspace_id,
            kind=kind.value,
            value_hash=value_hash,
            hint=hint[:128],
            reason=reason,
            created_by=actor,
        )
        .on_conflict_do_nothing()
        .returning(Blocked)
    )
    if made is None:
        raise AlreadyBlocked(kind.value)
    audit.record(
        session,
        workspace_id,
        actor=actor,
        action="blocklist.added",
        subject=("blocklist", made.id),
        details={"kind": kind.value, "reason": reason},
    )
    return made


async def unblock(session: AsyncSession, workspace_id: UUID, blocked_id: UUID, *, actor: str) -> bool:
    """Take something off the list. Returns whether it was there."""
    row = await session.scalar(
        select(Blocked).where(Blocked.id == blocked_id, Blocked.workspace_id == workspace_id).with_for_update()
    )
    if row is None:
        return False
    await session.delete(row)
    audit.record(
        session,
        workspace_id,
        actor=actor,
        action="blocklist.removed",
        subject=("blocklist", blocked_id),
        details={"kind": row.kind},
    )
    return True


async def blocklist_page(
    session: AsyncSession, workspace_id: UUID, *, limit: int, before: tuple[datetime, UUID] | None = None
) -> Sequence[Blocked]:
    """Newest first."""
    query = select(Blocked).where(Blocked.workspace_id == workspace_id)
    query = newest_first(query, Blocked, limit=limit, before=before)
    return (await session.scalars(query)).all()
