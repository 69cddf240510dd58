"""What the fraud guards are told, gathered inside the settlement's transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from domain import fraud
from domain.fraud import Finding, Judgement, Kind, Known, Rule, Traces, Velocity, Verdict
from domain.mailbox import mailbox_spellings
from storage import fingerprints, referrers
from storage.models import Payment, Workspace
from storage.sealing import Sealer
from storage.session import Database, in_a_hurry

log = structlog.get_logger()

PATIENCE_MILLISECONDS: Final = 1_000
"""How long one question to the books may take; then a person looks at the commission instead."""
ACCEPTED = Judgement(Verdict.ACCEPT)
UNAVAILABLE = Judgement(
    Verdict.HOLD, (Finding(Rule.GUARDS_UNAVAILABLE, Verdict.HOLD, "the guards could not be asked"),)
)


class FraudGuards:
    """Judges commissions. Whatever happens here, the payment is settled: in doubt the commission waits for a person."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._ready: set[UUID] = set()

    async def make_ready(self, database: Database, payment: Payment) -> None:
        """See to it that the payment's workspace has a key to compare by. Never raises.

        In a transaction of its own: settlements that run at the same time must not wait for each other here.
        """
        if payment.workspace_id in self._ready:
            return
        try:
            async with database.transaction() as session:
                await fingerprints.ensure_key(session, self._sealer, payment.workspace_id)
            self._ready.add(payment.workspace_id)
        except Exception as error:  # the settlement finds no key, and a person looks at the commission
            log.warning("no key to compare by", payment_id=str(payment.id), error=type(error).__name__)

    async def look(self, session: AsyncSession, payment: Payment, workspace: Workspace, card: str | None) -> Judgement:
        """Keep what a captured payment's payer is recognised by, and judge the referral, where there is one.

        `card` is the provider's fingerprint. The books are asked behind a savepoint with short time-outs, and take no
        locks: a fault leaves the transaction as it was, and the answer is to hold. Raises only what the transaction's
        own rows raise, which are written first.
        """
        await session.flush()
        try:
            key = fingerprints.key_of(self._sealer, workspace)
            if key is None:
                return UNAVAILABLE if payment.referrer_id else ACCEPTED
            payer = fraud.traces_of(key, email=_mailbox(payment), card=card, ip=payment.customer_ip)
            payment.card_fingerprint, payment.payer_fingerprint = payer.card, payer.email
            if payment.referrer_id is None:
                return ACCEPTED
            async with in_a_hurry(session, PATIENCE_MILLISECONDS):
                known = await self._known(session, workspace, payment.referrer_id, key)
                blocked = await referrers.blocked(session, workspace.id, _blockable(key, payment, payer))
            return fraud.judge(payer, known, blocked=blocked)
        except Exception as error:  # the payment must be settled whatever it is; an outage shows at the next statement
            log.warning("fraud guards unavailable", payment_id=str(payment.id), error=type(error).__name__)
            return UNAVAILABLE

    async def look_at_velocity(
        self, session: AsyncSession, payment: Payment, workspace: Workspace, judgement: Judgement, *, at: datetime
    ) -> Judgement:
        """The same judgement with the rule about how many; asked where settlements of a workspace are in line.

        Raises as `look`.
        """
        limit, hours = workspace.velocity_limit, workspace.velocity_hours
        if not limit or payment.referrer_id is None or judgement.verdict is Verdict.REJECT:
            return judgement
        await session.flush()
        try:
            async with in_a_hurry(session, PATIENCE_MILLISECONDS):
                count = await referrers.commissions_since(
                    session, workspace.id, payment.referrer_id, at=at, hours=hours, limit=limit
                )
        except Exception as error:  # as above
            log.warning("fraud guards unavailable", payment_id=str(payment.id), error=type(error).__name__)
            return UNAVAILABLE
        return fraud.with_velocity(judgement, Velocity(count, limit, hours))

    async def _known(self, session: AsyncSession, workspace: Workspace, referrer_id: str, key: bytes) -> Known:
        """The referrer's own record, and the payments that it made itself. An id that is an e-mail counts as one."""
        row = await referrers.get(session, workspace.id, referrer_id)
        identity = {} if row is None or row.identity is None else self._sealer.open_mapping(row.identity)
        own_addresses = [mailbox_spellings(text) for text in (referrer_id, identity.get("email", ""))]
        emails = {_mail_trace(key, one.today) for one in own_addresses if one is not None}
        before = {_mail_trace(key, name) for one in own_addresses if one is not None for name in one.before}
        if row is not None and row.email_hash is not None:
            before.add(row.email_hash)
        familiar = await referrers.as_payer(session, workspace.id, referrer_id, emails | before)
        own = [fraud.traces_of(key, email=None, card=None, ip=ip) for ip in familiar.ips]
        ips, ranges = {one.ip for one in own}, {one.ip_range for one in own}
        if row is not None:
            ips, ranges = ips | {row.ip_hash}, ranges | {row.ip_range_hash}
        return Known(
            emails=emails | before,
            cards=familiar.cards,
            ips={one for one in ips if one is not None},
            ip_ranges={one for one in ranges if one is not None},
            suspended=row is not None and row.status != "active",
        )


def _mailbox(payment: Payment) -> str | None:
    """Where the payer is written to; an id that is an address counts where no other is known."""
    return payment.customer_email or payment.customer_id


def _mail_trace(key: bytes, spelling: str) -> bytes:
    return fraud.trace(key, Kind.EMAIL, spelling)


def _blockable(key: bytes, payment: Payment, payer: Traces) -> list[tuple[Kind, bytes]]:
    """Everything about this referral that may be on the blocklist, as it is spelled today and was before."""
    named = [
        (Kind.REFERRER, payment.referrer_id),
        (Kind.EMAIL, _mailbox(payment)),
        (Kind.DOMAIN, payment.customer_email),
    ]
    found: list[tuple[Kind, bytes | None]] = [
        (Kind.CARD, payer.card),
        (Kind.IP, payer.ip),
        (Kind.IP_RANGE, payer.ip_range),
    ]
    for kind, value in named:
        known = None if value is None else fraud.spellings(kind, value)
        found += [] if known is None else [(kind, fraud.trace(key, kind, one)) for one in (known.today, *known.before)]
    return [(kind, value) for kind, value in found if value is not None]
