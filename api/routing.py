"""Through which accounts a payment may go, and whether they can take it as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.context import Services
from api.problems import Problem
from domain.money import Money
from providers.base import Capabilities, CheckoutMode, Method, Payer, ProviderMisconfigured, offered
from providers.registry import PROVIDERS
from storage import workspaces
from storage.models import ProviderAccount, Workspace
from storage.sealing import SealingError

CASH_LIFETIME = timedelta(hours=72)
"""How long a cash code can be paid, unless the request says otherwise: the payer has to go somewhere."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a payment asks of an account. `fields` are the method's own, such as the payer's bank."""

    amount: Money
    mode: CheckoutMode
    method: str | None
    fields: dict[str, str]
    payer: Payer
    save_method: bool = False


@dataclass(frozen=True, slots=True)
class Fit:
    """An account that can take the payment, with its sheet and the chosen method."""

    account: ProviderAccount
    sheet: Capabilities
    method: Method | None


async def route(
    session: AsyncSession,
    services: Services,
    workspace: Workspace,
    wanted: Wanted,
    *,
    provider: str | None,
    account_id: UUID | None,
) -> list[Fit]:
    """The accounts to try, first to last. Raises Problem when there is none that can take the payment.

    A payment that names a provider or an account goes there alone; others follow the workspace's own order.
    """
    if provider is not None and provider not in PROVIDERS:
        raise Problem("unknown_provider", f"Use one of: {', '.join(sorted(PROVIDERS))}.")
    accounts = await workspaces.accounts_of(session, workspace.id)
    enabled = [account for account in accounts if account.enabled]
    named = [
        account
        for account in enabled
        if (provider is None or account.provider == provider) and account_id in (None, account.id)
    ]
    if provider is not None or account_id is not None:
        chosen: Sequence[ProviderAccount] = named[:1]
    elif workspace.provider_order:
        by_id = {account.id: account for account in enabled}
        chosen = [by_id[one] for one in workspace.provider_order if one in by_id]
    else:
        chosen = enabled[:1]
    if not chosen:
        asleep = [one for one in accounts if not one.enabled]
        raise _no_account([one for one in asleep if provider in (None, one.provider) and account_id in (None, one.id)])
    fitting, refusals = [], []
    for account in chosen:
        try:
            fitting.append(fit(services, account, wanted))
        except Problem as problem:
            refusals.append(problem)
    if not fitting:
        raise refusals[0]
    return fitting


def _no_account(disabled: Sequence[ProviderAccount]) -> Problem:
    detail = "Connect one first: payment-cli account create, or POST /api/v1/provider-accounts."
    if disabled:
        detail = f"The {disabled[0].provider} account is disabled: payment-cli account enable {disabled[0].id}."
    return Problem("no_provider_account", detail)


def sheet_of(services: Services, account: ProviderAccount) -> Capabilities:
    """What the account can do. Raises Problem when its credentials cannot be used."""
    try:
        return services.pool.of(account).capabilities
    except (ProviderMisconfigured, SealingError):
        raise Problem(
            "provider_misconfigured",
            "The account's credentials cannot be used; replace them.",
            account_id=str(account.id),
        ) from None


def fit(services: Services, account: ProviderAccount, wanted: Wanted) -> Fit:
    """Check that the account can take the payment as it is. Raises Problem saying what to change."""
    sheet = sheet_of(services, account)
    currency = wanted.amount.currency
    if sheet.currencies is not None and currency not in sheet.currencies:
        takes = ", ".join(sorted(sheet.currencies)[:10])
        raise Problem("currency_not_of_provider", f"{account.provider} takes {takes}.")
    if wanted.save_method and not sheet.saves_methods:
        raise Problem("method_unavailable", f"{account.provider} cannot save what the payer pays with.")
    if wanted.mode is CheckoutMode.DIRECT:
        if not sheet.direct_payment:
            raise Problem("method_unavailable", f"{account.provider} has hosted pages only: send checkout_mode true.")
        return Fit(account, sheet, None)
    method = next((one for one in available(account, sheet, currency) if wanted.method in (None, one.name)), None)
    if method is None:
        names = ", ".join(one.name for one in available(account, sheet, currency)) or "none"
        raise Problem("method_unavailable", f"{account.provider} offers by this account: {names}.")
    if wanted.save_method and method.kind == "link":
        raise Problem("method_unavailable", "A payment link saves nothing: leave method or save_method out.")
    _check_amount(account, method, wanted.amount)
    missing = [f"customer.{name}" for name in method.payer_fields if not getattr(wanted.payer, name)]
    missing += [f"method_fields.{name}" for name in method.fields if not wanted.fields.get(name)]
    if missing:
        raise Problem("payer_data_missing", f"{account.provider} {method.name} needs {', '.join(missing)}.")
    return Fit(account, sheet, method)


def available(account: ProviderAccount, sheet: Capabilities, currency: str) -> list[Method]:
    """The methods of the sheet in this currency, narrowed by the account's option `methods`."""
    return offered(sheet, currency, account.options)


def bounds(account: ProviderAccount, method: Method) -> tuple[Decimal | None, Decimal | None]:
    """Least and greatest amount, major units: the method's, narrowed by `minimum_amount` and `maximum_amount`."""
    least, most = _decimal(account.options.get("minimum_amount")), _decimal(account.options.get("maximum_amount"))
    floors = [bound for bound in (method.minimum, least) if bound is not None]
    ceilings = [bound for bound in (method.maximum, most) if bound is not None]
    return (max(floors) if floors else None), (min(ceilings) if ceilings else None)


def lifetime(fitting: Fit, asked_seconds: int | None, default_seconds: int) -> timedelta:
    """How long the checkout may be paid, within what the method allows or, where it says nothing, the provider.

    A method's own limit may be the wider one: a payment link outlives a checkout session of the same provider.
    """
    cash = fitting.method is not None and fitting.method.kind == "cash"
    wanted = timedelta(seconds=asked_seconds) if asked_seconds is not None else None
    chosen = wanted or (CASH_LIFETIME if cash else timedelta(seconds=default_seconds))
    chosen = max(chosen, fitting.sheet.min_checkout_lifetime)
    own = None if fitting.method is None else fitting.method.max_lifetime
    longest = fitting.sheet.max_checkout_lifetime if own is None else own
    return chosen if longest is None else min(chosen, longest)


def _check_amount(account: ProviderAccount, method: Method, amount: Money) -> None:
    least, most = bounds(account, method)
    value = amount.to_decimal()
    if (least is not None and value < least) or (most is not None and value > most):
        span = f"from {least if least is not None else 0} to {most if most is not None else 'any amount'}"
        raise Problem("amount_out_of_range", f"{account.provider} {method.name} takes {span} {amount.currency}.")


def _decimal(value: Any) -> Decimal | None:
    if not isinstance(value, str | int):
        return None
    try:
        return Decimal(value)
    except InvalidOperation:
        return None
