"""Through which accounts a payment may go, and whether they can take it as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.context import Services
from api.problems import Problem, unusable_credentials
from domain.money import MAX_MAJOR_DIGITS, Money
from domain.steps import advice
from providers.base import Capabilities, CheckoutMode, Method, Payer, ProviderMisconfigured, offered
from providers.registry import PROVIDERS
from storage import workspaces
from storage.models import ProviderAccount, Workspace
from storage.sealing import SealingError

CASH_LIFETIME = timedelta(hours=72)
"""How long a cash code can be paid, unless the request says otherwise: the payer has to go somewhere."""
LIMITS = ("minimum_amount", "maximum_amount")
"""Options of every account: the amounts that it takes, in major units."""
OF_EVERY_ACCOUNT = frozenset({*LIMITS, "methods"})
"""Options that any provider's account may have."""
_LIMIT = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,4})?", re.ASCII)


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
        raise unusable_credentials(account_id=str(account.id)) from None


def fit(services: Services, account: ProviderAccount, wanted: Wanted) -> Fit:
    """Check that the account can take the payment as it is. Raises Problem saying what to change."""
    sheet = sheet_of(services, account)
    currency = wanted.amount.currency
    if sheet.currencies is not None and currency not in sheet.currencies:
        takes = ", ".join(sorted(sheet.currencies)[:10])
        raise Problem("currency_not_of_provider", f"{account.provider} takes {takes}.")
    check_step(account.provider, sheet, wanted.amount)
    if wanted.save_method and not sheet.saves_methods:
        raise Problem("method_unavailable", f"{account.provider} cannot save what the payer pays with.")
    if wanted.mode is CheckoutMode.DIRECT:
        if not sheet.direct_payment:
            raise Problem("method_unavailable", f"{account.provider} has hosted pages only: send checkout_mode true.")
        check_amount(account, None, wanted.amount)
        return Fit(account, sheet, None)
    method = next((one for one in available(account, sheet, currency) if wanted.method in (None, one.name)), None)
    if method is None:
        names = ", ".join(one.name for one in available(account, sheet, currency)) or "none"
        raise Problem("method_unavailable", f"{account.provider} offers by this account: {names}.")
    if wanted.save_method and method.kind == "link":
        raise Problem("method_unavailable", "A payment link saves nothing: leave method or save_method out.")
    check_amount(account, method, wanted.amount)
    missing = [f"customer.{name}" for name in method.payer_fields if not getattr(wanted.payer, name)]
    missing += [f"method_fields.{name}" for name in method.fields if not wanted.fields.get(name)]
    if missing:
        raise Problem("payer_data_missing", f"{account.provider} {method.name} needs {', '.join(missing)}.")
    return Fit(account, sheet, method)


def available(account: ProviderAccount, sheet: Capabilities, currency: str) -> list[Method]:
    """The methods of the sheet in this currency, narrowed by the account's option `methods`."""
    return offered(sheet, currency, account.options)


def bounds(account: ProviderAccount, method: Method | None) -> tuple[Decimal | None, Decimal | None]:
    """Least and greatest amount, major units: the method's, narrowed by `minimum_amount` and `maximum_amount`."""
    floors = [None if method is None else method.minimum, limit_of(account.options.get(LIMITS[0]))]
    ceilings = [None if method is None else method.maximum, limit_of(account.options.get(LIMITS[1]))]
    return (
        max((bound for bound in floors if bound is not None), default=None),
        min((bound for bound in ceilings if bound is not None), default=None),
    )


def limit_of(option: Any) -> Decimal | None:
    """An amount among an account's options: digits as text, or a whole number. None for anything else."""
    if type(option) is int and 0 <= option < 10**MAX_MAJOR_DIGITS:
        return Decimal(option)
    return Decimal(option) if isinstance(option, str) and _LIMIT.fullmatch(option) else None


def faults_of(options: Mapping[str, Any], sheet: Capabilities) -> list[str]:
    """What is wrong with the options that routing reads: a limit that is none would let every amount through."""
    faults = [
        f'{name} is an amount in major units, such as "1500.00"'
        for name in LIMITS
        if name in options and limit_of(options[name]) is None
    ]
    least, most = (limit_of(options.get(name)) for name in LIMITS)
    if least is not None and most is not None and least > most:
        faults.append(f"{LIMITS[0]} is above {LIMITS[1]}")
    known = [method.name for method in sheet.methods]
    only = options.get("methods", known)
    if not isinstance(only, list) or not only or any(name not in known for name in only):
        faults.append(f"methods is a list of some of: {', '.join(known)}")
    return faults


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


def check_step(provider: str, sheet: Capabilities, amount: Money) -> None:
    """Refuse an amount that the provider could only take if it was rounded. Raises Problem."""
    step = sheet.step(amount.currency)
    if amount.minor % step:
        raise Problem(
            "amount_not_representable", advice(provider, amount, step), step=str(Money(step, amount.currency))
        )


def check_amount(account: ProviderAccount, method: Method | None, amount: Money) -> None:
    """Hold the amount against the limits of the method, if one was chosen, and of the account. Raises Problem."""
    least, most = bounds(account, method)
    value = amount.to_decimal()
    if (least is not None and value < least) or (most is not None and value > most):
        span = f"from {least if least is not None else 0} to {most if most is not None else 'any amount'}"
        what = account.provider if method is None else f"{account.provider} {method.name}"
        raise Problem("amount_out_of_range", f"{what} takes {span} {amount.currency}.")
