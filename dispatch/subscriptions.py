"""Events about subscriptions that a provider manages, on their way from the inbox to their workflows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from domain.payment import ProviderTrigger
from providers.base import ProviderEvent
from storage import audit, subscriptions, workspaces
from storage.models import ProviderAccount

FOLLOW = "follow_subscriptions"
"""The account's option that has its provider's own subscriptions followed."""


@dataclass(frozen=True, slots=True)
class SubscriptionHandover:
    """An inbox row about a followed subscription."""

    subscription_id: UUID
    trigger: ProviderTrigger


async def followed(
    session: AsyncSession, account: ProviderAccount, event: ProviderEvent, *, now: datetime
) -> UUID | None:
    """The subscription of ours that an event is about; put on record now if the account wants them followed."""
    if event.subscription_id is None:
        return None
    known = await subscriptions.of_provider(session, account.id, event.subscription_id)
    if known is not None:
        return known.id
    workspace = await workspaces.get(session, account.workspace_id)
    if account.options.get(FOLLOW) is not True or workspace is None:
        return None
    values = subscriptions.followed_values(account, event.subscription_id, timezone=workspace.timezone, now=now)
    if await subscriptions.insert_new(session, values):
        audit.record(
            session,
            account.workspace_id,
            actor=f"provider:{account.provider}",
            action="subscription.followed",
            subject=("subscription", values["id"]),
            details={"provider_subscription_id": event.subscription_id},
        )
    return UUID(str(values["id"]))
