"""What the fraud guards are told, gathered inside the settlement's transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from domain import fraud
from domain.fraud import Finding, Judgement, Kind, Known, Rule, Traces, Velocity, Verdict
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
            payer = fraud.traces_of(key, email=payment.customer_email, card=card, ip=payment.customer_ip)
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
        mailbox = fraud.normal_email(referrer_id)
        by_id = None if mailbox is None else fraud.trace(key, Kind.EMAIL, mailbox)
        by_record = None if row is None else row.email_hash
        emails = {one for one in (by_record, by_id) if one is not None}
        familiar = await referrers.as_payer(session, workspace.id, referrer_id, emails)
        own = [fraud.traces_of(key, email=None, card=None, ip=ip) for ip in familiar.ips]
        ips, ranges = {one.ip for one in own}, {one.ip_range for one in own}
        if row is not None:
            ips, ranges = ips | {row.ip_hash}, ranges | {row.ip_range_hash}
        return Known(
            emails=emails,
            cards=familiar.cards,
            ips={one for one in ips if one is not None},
            ip_ranges={one for one in ranges if one is not None},
            suspended=row is not None and row.status != "active",
        )


def _blockable(key: bytes, payment: Payment, payer: Traces) -> list[tuple[Kind, bytes]]:
    """Everything about this referral that may be on the blocklist."""
    domain = None if payment.customer_email is None else fraud.blockable(Kind.DOMAIN, payment.customer_email)
    referrer = None if payment.referrer_id is None else fraud.blockable(Kind.REFERRER, payment.referrer_id)
    found = [
        (Kind.REFERRER, None if referrer is None else fraud.trace(key, Kind.REFERRER, referrer)),
        (Kind.EMAIL, payer.email),
        (Kind.DOMAIN, None if domain is None else fraud.trace(key, Kind.DOMAIN, domain)),
        (Kind.CARD, payer.card),
        (Kind.IP, payer.ip),
        (Kind.IP_RANGE, payer.ip_range),
    ]
    return [(kind, value) for kind, value in found if value is not None]
