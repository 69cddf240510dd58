"""Events about subscriptions that a provider manages, on their way from the inbox to their workflows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from domain.payment import ProviderTrigger
from storage import audit, inbox, subscriptions, workspaces
from storage.models import ProviderAccount

SUBSCRIPTION = "subscription:"
"""What an event's names have before the provider's id of a subscription (`dispatch.owners`)."""
FOLLOW = "follow_subscriptions"
"""The account's option that has its provider's own subscriptions followed."""


@dataclass(frozen=True, slots=True)
class SubscriptionHandover:
    """An inbox row about a followed subscription."""

    subscription_id: UUID
    trigger: ProviderTrigger


async def followed(
    session: AsyncSession, account: ProviderAccount, provider_subscription_id: str | None, *, now: datetime
) -> UUID | None:
    """The subscription of ours that an event names; put on record now if the account wants them followed."""
    if provider_subscription_id is None:
        return None
    known = await subscriptions.of_provider(session, account.id, provider_subscription_id)
    if known is not None:
        return known.id
    workspace = await workspaces.get(session, account.workspace_id)
    if account.options.get(FOLLOW) is not True or workspace is None:
        return None
    values = subscriptions.followed_values(account, provider_subscription_id, timezone=workspace.timezone, now=now)
    if await subscriptions.insert_new(session, values):
        await inbox.owner_known(session, account.id, [f"{SUBSCRIPTION}{provider_subscription_id}"])
        audit.record(
            session,
            account.workspace_id,
            actor=f"provider:{account.provider}",
            action="subscription.followed",
            subject=("subscription", values["id"]),
            details={"provider_subscription_id": provider_subscription_id},
        )
    return UUID(str(values["id"]))
