"""Whose an event is: judged when it comes, and again whenever something that it may be about becomes known.

All that an event says of its owner is kept beside it as names: the provider's ids as they are, the others with what
they are before a colon. A saved method's token is kept as its hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from dispatch.methods import ABOUT_METHODS
from dispatch.subscriptions import SUBSCRIPTION, followed
from providers.base import EventKind, ProviderEvent
from storage import attempts, payment_methods, setups, workspaces
from storage.models import Attempt, Payment, ProviderAccount, WebhookEvent

REFERENCE = "reference:"
MAX_NAME = 255


def names_of(event: ProviderEvent) -> list[str]:
    """All that an event says of whose it is; nothing of one that is nobody's here. No secrets."""
    if event.ignored is not None:
        return []
    plain = (event.session_id, event.transaction_id, *event.also_named)
    names = [name[:MAX_NAME] for name in plain if name is not None]
    if event.reference is not None:
        names.append(f"{REFERENCE}{event.reference}")
    if event.subscription_id is not None:
        names.append(f"{SUBSCRIPTION}{event.subscription_id[:MAX_NAME]}")
    if event.kind is EventKind.METHOD:
        names += payment_methods.names(token=event.method_token, customer=event.customer, mandate=event.mandate)
    return list(dict.fromkeys(names))


@dataclass(frozen=True, slots=True)
class Owner:
    """What of ours an event is about. `reference` is the attempt's, or the id of a set-up, method or subscription.

    `why_not` says in a few words why there is none; `foreign` that it names one of another account, which this account
    may not speak of, now or later.
    """

    payment: Payment | None = None
    attempt: Attempt | None = None
    reference: UUID | None = None
    why_not: str | None = None
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event says of whose it is: `names` is all, the checkout and the transaction among them."""

    kind: EventKind
    names: Sequence[str]
    session_id: str | None = None
    transaction_id: str | None = None

    @classmethod
    def of(cls, event: ProviderEvent) -> Subject:
        """Of an event that has just come."""
        return cls(event.kind, names_of(event), event.session_id, event.transaction_id)

    def after(self, mark: str) -> str | None:
        """What stands behind a mark."""
        return next((name.removeprefix(mark) for name in self.names if name.startswith(mark)), None)

    @property
    def reference(self) -> UUID | None:
        """Ours."""
        named = self.after(REFERENCE)
        return None if named is None else UUID(named)

    @property
    def other_ids(self) -> list[str]:
        """The provider's ids beside checkout and transaction."""
        marks = (*payment_methods.MARKS, REFERENCE, SUBSCRIPTION)
        apart = (self.session_id, self.transaction_id)
        return [name for name in self.names if name not in apart and not name.startswith(marks)]


async def owner_of(session: AsyncSession, account: ProviderAccount, subject: Subject, *, now: datetime) -> Owner:
    """Find it by all that the event names. The account must be the owner's: nobody speaks of another's payment."""
    kind, names = subject.kind, subject.names
    if kind is EventKind.SETUP:
        sessions = [] if subject.session_id is None else [subject.session_id]
        found = await setups.of_names(session, account, reference=subject.reference, session_ids=sessions)
        return Owner(reference=found, why_not=None if found else "no setup of ours")
    if kind is EventKind.METHOD:
        found = await payment_methods.of_names(session, account, names)
        return Owner(reference=found, why_not=None if found else "no method of ours")
    if kind is EventKind.SUBSCRIPTION:
        found = await followed(session, account, subject.after(SUBSCRIPTION), now=now)
        return Owner(reference=found, why_not=None if found else "no subscription that is followed")
    if kind is EventKind.PAYOUT:  # it was kept when it came
        return Owner(why_not="about the account", foreign=True)
    payment, attempt, foreign = await attempts.payment_of_event(
        session,
        account,
        reference=subject.reference,
        session_id=subject.session_id,
        transaction_id=subject.transaction_id,
        other_ids=subject.other_ids,
    )
    if payment is None:
        why_not = "no such payment in this account" if subject.reference is not None else "no payment of ours"
        return Owner(why_not=why_not, foreign=foreign)
    return Owner(payment, attempt, subject.reference if attempt is None else attempt.reference)


async def match(session: AsyncSession, row: WebhookEvent, *, now: datetime) -> Owner:
    """Judge anew whose a stored event is, and note it."""
    account = await workspaces.account(session, row.provider_account_id)
    assert account is not None  # noqa: S101  (a foreign key)
    names = row.named or [name for name in (row.session_id, row.transaction_id) if name is not None]
    subject = Subject(EventKind(row.kind), names, row.session_id, row.transaction_id)
    owner = await owner_of(session, account, subject, now=now)
    if owner.why_not is None:
        row.payment_id = None if owner.payment is None else owner.payment.id
        row.reference = owner.reference
    return owner


def is_owned(row: WebhookEvent) -> bool:
    """Whether a stored event is known to be about something of ours."""
    apart = row.kind in ABOUT_METHODS or row.kind == EventKind.SUBSCRIPTION
    return row.reference is not None if apart else row.payment_id is not None
