"""Set-ups of payment methods, and what becomes of saved methods at their providers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import billing
from activities.confirmation import new_method
from activities.customers import ProviderCustomers
from activities.errors import as_application_error
from activities.guard import ProviderGuard
from activities.method_news import MethodNews
from domain.setup import (
    SETUP_OPEN,
    DetachMethod,
    FailSetup,
    LookAtSetup,
    MethodStatus,
    OpenedSetup,
    RefreshMethods,
    SetupProgress,
    SetupStatus,
    StartSetup,
)
from providers.base import (
    KnowsMandates,
    OpenedCheckout,
    Payer,
    Provider,
    ProviderRejected,
    ProviderSetup,
    SavedMethod,
    SavesMethods,
    SetupRef,
    SetupRequest,
)
from storage import audit, inbox, outbox, payment_methods, setups, subscriptions, workspaces
from storage.models import MethodSetup, PaymentMethod, ProviderAccount, ProviderHealth, Workspace
from storage.sealing import Sealer
from storage.session import Database

log = structlog.get_logger()

Loaded = tuple[MethodSetup, ProviderAccount, ProviderHealth | None]


class SetupActivities:
    """Opens set-ups and follows them; providers are called between transactions, never inside one."""

    def __init__(
        self,
        database: Database,
        guard: ProviderGuard,
        sealer: Sealer,
        now: Callable[[], datetime],
        *,
        public_base_url: str,
        news: MethodNews,
    ) -> None:
        self._database = database
        self._guard = guard
        self._sealer = sealer
        self._now = now
        self._base = public_base_url.rstrip("/")
        self._customers = ProviderCustomers(database, guard)
        self._news = news

    @activity.defn
    async def open_setup(self, command: StartSetup) -> OpenedSetup:
        """Open the page, or find the one that an earlier try opened, and record it. Safe to repeat.

        Raises ApplicationError typed as in providers/base.py.
        """
        row, account, health = await self._loaded(command.setup_id)
        if row.session_id is not None or SetupStatus(row.status) not in SETUP_OPEN:
            return OpenedSetup(SetupStatus(row.status), row.checkout_url, row.error_code)
        async with self._database.transaction() as session:
            workspace = await workspaces.get(session, row.workspace_id)
        assert workspace is not None  # noqa: S101  (a foreign key)
        payer = Payer(row.customer_id, row.customer_name, row.customer_email, row.customer_phone)

        async def open_for(customer: str | None) -> OpenedCheckout:
            request = self._request(row, workspace, payer, customer)
            return await self._guard.call(account, health, lambda adapter: _saver(adapter).open_setup(request))

        with as_application_error():
            opened = await self._customers.using(account, health, row.customer_id, payer, open_for)
        return await self._record_opened(row, opened)

    @activity.defn
    async def look_at_setup(self, command: LookAtSetup) -> SetupProgress:
        """Ask the provider how the set-up stands; store the method once there is one, in one transaction. Repeatable.

        The events named in the command are marked handled in the same transaction. Raises ApplicationError typed as in
        providers/base.py.
        """
        row, account, health = await self._loaded(command.setup_id)
        if SetupStatus(row.status) is SetupStatus.SUCCEEDED:
            async with self._database.transaction() as session:
                await inbox.mark_handled(session, command.inbox_ids, outcome=row.status)
            await self._news.method_changed(row.workspace_id, row.customer_id)  # should the first telling have died
            return _progress(row)
        secret = None if row.session_secret is None else self._sealer.open(row.session_secret)
        ref = SetupRef(row.id, row.session_id, row.created_at, secret)

        async def ask(adapter: Provider) -> ProviderSetup:
            saver = _saver(adapter)
            return await (saver.close_setup(ref) if command.close else saver.look_setup(ref))

        with as_application_error():
            seen = await self._guard.call(account, health, ask)
        progress, news = await self._record_seen(command, account, seen)
        if news:
            await self._news.method_changed(row.workspace_id, row.customer_id)
        return progress

    @activity.defn
    async def fail_setup(self, command: FailSetup) -> SetupProgress:
        """Record what the workflow concluded: unknown, failed or expired. What succeeded stays so. Safe to repeat."""
        async with self._database.transaction() as session:
            row = await setups.lock(session, command.setup_id)
            if SetupStatus(row.status) in SETUP_OPEN and row.status != command.status:
                row.status, row.error_code, row.updated_at = command.status.value, command.reason[:100], self._now()
                audit.record(
                    session,
                    row.workspace_id,
                    actor="workflow",
                    action=f"payment_method_setup.{command.status.value}",
                    subject=("payment_method_setup", row.id),
                    details={"code": command.reason},
                )
                await _tell(session, row, at=self._now())
            return _progress(row)

    @activity.defn
    async def refresh_methods(self, command: RefreshMethods) -> int:
        """After a provider told of a change: read each method there, bring ours up to date. Returns how many changed.

        A method that is gone at the provider, or may not be debited any more, is detached here. Safe to repeat. Raises
        ApplicationError typed as in providers/base.py.
        """
        async with self._database.transaction() as session:
            methods = await payment_methods.of_reference(session, command.reference)
            mandates = await inbox.names_with(session, command.inbox_ids, payment_methods.MANDATE)
        changed = 0
        for method in methods:
            changed += await self._refresh(method, mandates)
        gone = all([await self._is_gone(one) for one in methods])
        async with self._database.transaction() as session:
            if gone:  # also the customer, as far as we need it: the next method makes a new one
                await payment_methods.forget_customer(session, command.reference)
            await inbox.mark_handled(session, command.inbox_ids, outcome=f"{changed} methods changed")
        return changed

    @activity.defn
    async def detach_method(self, command: DetachMethod) -> bool:
        """Detach at the provider what is detached with us. Returns whether the provider was asked. Safe to repeat.

        So are the tokens that it had before. One that another customer's active method has too stays alive there.
        Raises ApplicationError typed as in providers/base.py.
        """
        async with self._database.transaction() as session:
            found = await payment_methods.with_account(session, command.payment_method_id)
            if found is None:
                raise ApplicationError("no such method", "payment_method_not_found", None, type="PaymentNotFound")
            method, account = found
            tokens: list[bytes] = []
            if method.status != MethodStatus.ACTIVE:
                tokens = await payment_methods.tokens_to_detach(session, method)
        asked = False
        for token in tokens:
            asked = await self._detach(account, self._sealer.open(token))
        return asked

    async def _detach(self, account: ProviderAccount, token: str) -> bool:
        async def ask(adapter: Provider) -> bool:
            if not isinstance(adapter, SavesMethods):
                return False
            await adapter.detach(token)
            return True

        with as_application_error():
            return await self._guard.call(account, None, ask)

    async def _refresh(self, method: PaymentMethod, mandates: Sequence[str]) -> bool:
        async with self._database.transaction() as session:
            found = await payment_methods.with_account(session, method.id)
        if found is None:
            return False
        token = self._sealer.open(method.token)

        async def ask(adapter: Provider) -> tuple[SavedMethod | None, bool]:
            revoked = isinstance(adapter, KnowsMandates) and any(
                [await adapter.is_revoked(token, one) for one in mandates]
            )
            return await _saver(adapter).look_method(token), revoked

        with as_application_error():
            seen, revoked = await self._guard.call(found[1], None, ask)
        async with self._database.transaction() as session:
            locked = await payment_methods.lock(session, method.id)
            if locked is None or locked.status == MethodStatus.DETACHED:
                return False
            gone = seen is None or revoked
            values = {"status": MethodStatus.DETACHED.value} if seen is None or revoked else _card_of(seen)
            if not gone and any(getattr(locked, name) != value for name, value in values.items()):
                values["status"] = MethodStatus.ACTIVE.value  # the bank has sent a new card for an expired one
            why = "mandate_inactive" if revoked else None
            news = await payment_methods.change(session, locked, values, at=self._now(), actor="provider", why=why)
        if news:
            await self._news.method_changed(method.workspace_id, method.customer_id)
        return news

    async def _is_gone(self, method: PaymentMethod) -> bool:
        async with self._database.transaction() as session:
            found = await payment_methods.lock(session, method.id)
        return found is None or found.status == MethodStatus.DETACHED

    async def _loaded(self, setup_id: UUID) -> Loaded:
        async with self._database.transaction() as session:
            found = await setups.load(session, setup_id)
        if found is None:
            raise ApplicationError("no such set-up", "setup_not_found", None, type="PaymentNotFound")
        return found

    def _request(self, row: MethodSetup, workspace: Workspace, payer: Payer, customer: str | None) -> SetupRequest:
        """All of it comes from rows, so every try sends the same."""
        return SetupRequest(
            reference=row.id,
            workspace_id=row.workspace_id,
            currency=workspace.currency,
            created_at=row.created_at,
            expires_at=row.expires_at,
            description=f"{workspace.name}: save a payment method",
            customer=customer,
            success_url=row.success_url,
            cancel_url=row.cancel_url,
            callback_url=f"{self._base}/api/v1/webhooks/{row.provider}/{row.provider_account_id}",
            payer=payer,
            language=row.language,
        )

    async def _record_opened(self, row: MethodSetup, opened: OpenedCheckout) -> OpenedSetup:
        async with self._database.transaction() as session:
            locked = await setups.lock(session, row.id)
            if locked.session_id is None and SetupStatus(locked.status) in SETUP_OPEN:
                locked.session_id, locked.checkout_url = opened.session_id, opened.url
                await inbox.owner_known(session, locked.provider_account_id, [opened.session_id])
                if opened.session_secret is not None:
                    locked.session_secret = self._sealer.seal(opened.session_secret)
                locked.status, locked.error_code = SetupStatus.PENDING.value, None
                locked.updated_at = self._now()
            return OpenedSetup(SetupStatus(locked.status), locked.checkout_url)

    async def _record_seen(
        self, command: LookAtSetup, account: ProviderAccount, seen: ProviderSetup
    ) -> tuple[SetupProgress, bool]:
        news, at = False, self._now()
        async with self._database.transaction() as session:
            row = await setups.lock(session, command.setup_id)
            status = SetupStatus(row.status)
            if seen.method is not None and status is not SetupStatus.SUCCEEDED:
                await payment_methods.lock_customer(session, row.workspace_id, row.customer_id)
                if row.subscription_id is not None:  # before anything is written: the audit log's lock comes last
                    await subscriptions.lock(session, row.subscription_id)
                kept = await payment_methods.keep(
                    session,
                    self._sealer,
                    account,
                    row.customer_id,
                    new_method(seen.method),
                    make_default=row.make_default,
                    at=at,
                    actor="provider",
                )
                news = kept.news or row.subscription_id is not None
                if row.subscription_id is not None:
                    await billing.method_set_up(session, row.subscription_id, kept.method.id, at=at)
                row.status, row.payment_method_id = SetupStatus.SUCCEEDED.value, kept.method.id
                row.error_code = None
            elif status in SETUP_OPEN:
                over = command.close or seen.status in (SetupStatus.EXPIRED, SetupStatus.FAILED)
                gone = SetupStatus.FAILED if seen.status is SetupStatus.FAILED else SetupStatus.EXPIRED
                row.status = (gone if over else SetupStatus.PENDING).value
                row.error_code = seen.failure_code or row.error_code
            if row.status != status:
                row.updated_at = at
                audit.record(
                    session,
                    row.workspace_id,
                    actor="provider",
                    action=f"payment_method_setup.{row.status}",
                    subject=("payment_method_setup", row.id),
                    details={"provider": row.provider} | ({"code": row.error_code} if row.error_code else {}),
                )
                await _tell(session, row, at=at)
            await inbox.mark_handled(session, command.inbox_ids, outcome=row.status)
            return _progress(row), news


async def _tell(session: AsyncSession, row: MethodSetup, *, at: datetime) -> None:
    """Queue a notification about a locked set-up that has come to an end; what succeeds after its end is told too."""
    if SetupStatus(row.status) in SETUP_OPEN:
        return
    workspace = await workspaces.get(session, row.workspace_id)
    assert workspace is not None  # noqa: S101  (a foreign key)
    outbox.add_lone_notice(
        session,
        workspace,
        row.id,
        notice_type=f"payment_method_setup.{row.status}",
        at=at,
        data={
            "setup_id": str(row.id),
            "customer_id": row.customer_id,
            "status": row.status,
            "payment_method_id": None if row.payment_method_id is None else str(row.payment_method_id),
            "code": row.error_code,
            "provider": row.provider,
        },
    )


def _saver(adapter: Provider) -> SavesMethods:
    """The adapter as one that saves methods. Raises ProviderRejected."""
    if not isinstance(adapter, SavesMethods):
        raise ProviderRejected("setups_not_supported")
    return adapter


def _card_of(seen: SavedMethod) -> dict[str, object]:
    fresh = new_method(seen)
    values = {"brand": fresh.brand, "last4": fresh.last4, "exp_month": fresh.exp_month, "exp_year": fresh.exp_year}
    return {name: value for name, value in values.items() if value is not None}


def _progress(row: MethodSetup) -> SetupProgress:
    return SetupProgress(row.id, SetupStatus(row.status), row.payment_method_id, row.error_code)
