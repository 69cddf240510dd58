"""Saved payment methods and the customers that they belong to at providers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.fraud import Kind, trace
from domain.setup import MethodStatus, customer_reference
from storage import audit, charged_methods, fingerprints, inbox
from storage.models import PaymentMethod, ProviderAccount, ProviderCustomer, ReplacedToken
from storage.paging import newest_first
from storage.sealing import Sealer


@dataclass(frozen=True, slots=True)
class NewMethod:
    """A method as a provider gave it; `token` and `fingerprint` in clear, for a moment."""

    token: str
    kind: str
    provider_customer_id: str | None
    brand: str | None
    last4: str | None
    exp_month: int | None
    exp_year: int | None
    fingerprint: str | None


@dataclass(frozen=True, slots=True)
class Kept:
    """A method on record. `news`: it is new or other than before, or the customer's default has changed."""

    method: PaymentMethod
    news: bool


def hash_of(token: str) -> bytes:
    """What a token is found by. Tokens are long and random, so one round is enough."""
    return hashlib.sha256(token.encode()).digest()


async def keep(
    session: AsyncSession,
    sealer: Sealer,
    account: ProviderAccount,
    customer_id: str,
    found: NewMethod,
    *,
    make_default: bool,
    at: datetime,
    actor: str,
) -> Kept:
    """Store a method, or bring the stored one of the same token or card up to date.

    Safe to repeat and under concurrency. The same card saved again takes its new token, unless that is of an earlier
    expiry. A customer's first method becomes the default whatever was asked. The caller tells those who wait for a
    method (`activities.method_news`) after the commit when there is news.
    """
    await lock_customer(session, account.workspace_id, customer_id)
    marker = None
    if found.fingerprint is not None:
        key = await fingerprints.open_key(session, sealer, account.workspace_id)
        marker = trace(key, Kind.CARD, found.fingerprint)  # as payments have it: the same card is found again
    card = {
        "brand": found.brand,
        "last4": found.last4,
        "exp_month": found.exp_month,
        "exp_year": found.exp_year,
        "fingerprint": marker,
    }
    method = await by_token(session, account.id, found.token, customer_id)
    if method is None and marker is not None:
        method = await _of_card(session, account.id, customer_id, found.kind, marker)
    if method is None:
        method_id = uuid5(account.id, f"{hash_of(found.token).hex()}:{customer_id}")
        method = PaymentMethod(
            id=method_id,
            workspace_id=account.workspace_id,
            provider_account_id=account.id,
            provider=account.provider,
            customer_id=customer_id,
            provider_customer_id=found.provider_customer_id,
            token=sealer.seal(found.token),
            token_hash=hash_of(found.token),
            kind=found.kind,
            status=MethodStatus.ACTIVE.value,
            is_default=False,
            created_at=at,
            updated_at=at,
            **card,
        )
        session.add(method)
        await session.flush()
        _audit(session, method, "added", actor)
        await inbox.owner_known(session, account.id, names(token=found.token, customer=None))
        news = True
    elif await _is_outdated(session, method, found):
        await _replace(session, method, sealer.seal(found.token), hash_of(found.token))
        news = False
    else:
        known: dict[str, Any] = {name: value for name, value in card.items() if value is not None}
        known["status"] = MethodStatus.ACTIVE.value
        if method.token_hash != hash_of(found.token):
            await _replace(session, method, method.token, method.token_hash)
            known |= {"token": sealer.seal(found.token), "token_hash": hash_of(found.token)}
            known["provider_customer_id"] = found.provider_customer_id
            await inbox.owner_known(session, account.id, names(token=found.token, customer=None))
        news = await change(session, method, known, at=at, actor=actor)
    vacant = await default_of(session, account.workspace_id, customer_id) is None
    if method.status == MethodStatus.ACTIVE and (make_default or vacant):
        news = await set_default(session, method, at=at, actor=actor) or news
    return Kept(method, news)


async def change(
    session: AsyncSession,
    method: PaymentMethod,
    values: dict[str, Any],
    *,
    at: datetime,
    actor: str,
    why: str | None = None,
) -> bool:
    """Bring a locked method up to date. Returns whether anything changed. `why` is kept in the audit log.

    Where the default cannot be charged any more, the best of the customer's others takes its place.
    """
    changed = {name: value for name, value in values.items() if getattr(method, name) != value}
    if not changed:
        return False
    for name, value in changed.items():
        setattr(method, name, value)
    method.updated_at = at
    vacant = method.is_default and changed.get("status", MethodStatus.ACTIVE) != MethodStatus.ACTIVE
    if vacant:
        method.is_default = False
    if changed.get("status") == MethodStatus.DETACHED:
        method.detached_at = at
    action = str(changed["status"]) if "status" in changed else "updated"
    _audit(session, method, action, actor, changed=sorted(changed), **({} if why is None else {"why": why}))
    if vacant:
        await session.flush()
        heir = await charged_methods.best_of(session, method.workspace_id, method.customer_id)
        if heir is not None:
            await set_default(session, heir, at=at, actor=actor, chosen=False)
    return True


async def set_default(
    session: AsyncSession, method: PaymentMethod, *, at: datetime, actor: str, chosen: bool = True
) -> bool:
    """Make an active method, which is locked, its customer's default. Returns whether it was not. Raises ValueError.

    `chosen`: somebody wants it; else it takes the place of one that was taken away.
    """
    if method.status != MethodStatus.ACTIVE:
        raise ValueError(f"the method is {method.status}")
    method.default_chosen = chosen
    if method.is_default:
        return False
    await session.execute(
        update(PaymentMethod)
        .where(
            PaymentMethod.workspace_id == method.workspace_id,
            PaymentMethod.customer_id == method.customer_id,
            PaymentMethod.is_default,
        )
        .values(is_default=False, updated_at=at)
    )
    method.is_default, method.updated_at = True, at
    _audit(session, method, "made_default", actor, chosen=chosen)
    await session.flush()
    return True


def charged_to(method: PaymentMethod, *, off_session: bool) -> dict[str, Any]:
    """The columns of a payment that charges this method; whoever makes such a payment takes them from here."""
    return {
        "payment_method_id": method.id,
        "off_session": off_session,
        "checkout_mode": "saved",
        "provider": method.provider,
        "provider_account_id": method.provider_account_id,
        "method": method.kind,
        "fallback_accounts": [],
    }


async def get(session: AsyncSession, workspace_id: UUID, method_id: UUID) -> PaymentMethod | None:
    """One method of one workspace."""
    query = select(PaymentMethod).where(PaymentMethod.id == method_id, PaymentMethod.workspace_id == workspace_id)
    return await session.scalar(query)


async def lock_customer(session: AsyncSession, workspace_id: UUID, customer_id: str) -> None:
    """Order those who change one customer's methods: at most one default, without deadlocks. Held to the commit.

    Take it after a payment's lock and before all others: the audit log's, which comes last, may be taken by any flush.
    """
    name = f"methods:{workspace_id}:{customer_id}"
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


async def lock(session: AsyncSession, method_id: UUID) -> PaymentMethod | None:
    """A method as it is now, under the locks of its customer and its row, always taken in this order."""
    known = await session.get(PaymentMethod, method_id)
    if known is None:
        return None
    await lock_customer(session, known.workspace_id, known.customer_id)
    query = select(PaymentMethod).where(PaymentMethod.id == method_id)
    return await session.scalar(query.with_for_update().execution_options(populate_existing=True))


async def with_account(session: AsyncSession, method_id: UUID) -> tuple[PaymentMethod, ProviderAccount] | None:
    """A method and the account that charges it."""
    query = select(PaymentMethod, ProviderAccount).join(
        ProviderAccount, ProviderAccount.id == PaymentMethod.provider_account_id
    )
    row = (await session.execute(query.where(PaymentMethod.id == method_id))).first()
    return None if row is None else (row[0], row[1])


async def by_token(
    session: AsyncSession, account_id: UUID, token: str, customer_id: str | None = None
) -> PaymentMethod | None:
    """The method of a token, or of one that it had before: this customer's, or anybody's.

    A provider may have one token for a card that two use.
    """
    query = select(PaymentMethod).where(_has_token(account_id, hash_of(token)))
    if customer_id is not None:
        query = query.where(PaymentMethod.customer_id == customer_id)
    return await session.scalar(query.order_by(PaymentMethod.created_at).limit(1))


def _has_token(account_id: UUID, token_hash: bytes) -> ColumnElement[bool]:
    """Whether a method of an account has this token, or had it before."""
    before = select(ReplacedToken.payment_method_id).where(
        ReplacedToken.provider_account_id == account_id, ReplacedToken.token_hash == token_hash
    )
    has = or_(PaymentMethod.token_hash == token_hash, PaymentMethod.id.in_(before))
    return and_(PaymentMethod.provider_account_id == account_id, has)


async def tokens_to_detach(session: AsyncSession, method: PaymentMethod) -> list[bytes]:
    """The tokens of a method, encrypted, that of now first; not those that another customer's active method has too.

    Those must stay alive at the provider.
    """
    query = select(ReplacedToken).where(ReplacedToken.payment_method_id == method.id).order_by(ReplacedToken.created_at)
    tokens = {method.token_hash: method.token} | {row.token_hash: row.token for row in await session.scalars(query)}
    shared = await session.scalars(
        select(PaymentMethod.token_hash).where(
            PaymentMethod.provider_account_id == method.provider_account_id,
            PaymentMethod.token_hash.in_(tokens),
            PaymentMethod.id != method.id,
            PaymentMethod.status == MethodStatus.ACTIVE,
        )
    )
    kept = set(shared)
    return [token for token_hash, token in tokens.items() if token_hash not in kept]


async def _of_card(
    session: AsyncSession, account_id: UUID, customer_id: str, kind: str, fingerprint: bytes
) -> PaymentMethod | None:
    """A customer's method of the same card, by what the provider knows cards by; the default of several."""
    query = select(PaymentMethod).where(
        PaymentMethod.provider_account_id == account_id,
        PaymentMethod.customer_id == customer_id,
        PaymentMethod.kind == kind,
        PaymentMethod.fingerprint == fingerprint,
        PaymentMethod.status != MethodStatus.DETACHED,
    )
    order = (PaymentMethod.is_default.desc(), PaymentMethod.status, PaymentMethod.created_at.desc())
    return await session.scalar(query.order_by(*order).limit(1))


async def _is_outdated(session: AsyncSession, method: PaymentMethod, found: NewMethod) -> bool:
    """Whether what was found is what the method was before: a token that has been replaced, or an earlier expiry."""
    token_hash = hash_of(found.token)
    if method.token_hash == token_hash:
        return False
    replaced = select(ReplacedToken.id).where(
        ReplacedToken.payment_method_id == method.id, ReplacedToken.token_hash == token_hash
    )
    if await session.scalar(replaced) is not None:
        return True
    then, now = (found.exp_year, found.exp_month), (method.exp_year, method.exp_month)
    return None not in (*then, *now) and then < now


async def _replace(session: AsyncSession, method: PaymentMethod, token: bytes, token_hash: bytes) -> None:
    """Keep a token of the same card that is not charged any more. A repeat changes nothing."""
    values = {
        "id": uuid5(method.id, token_hash.hex()),
        "payment_method_id": method.id,
        "provider_account_id": method.provider_account_id,
        "token": token,
        "token_hash": token_hash,
    }
    await session.execute(insert(ReplacedToken).values(values).on_conflict_do_nothing())


async def default_of(session: AsyncSession, workspace_id: UUID, customer_id: str) -> PaymentMethod | None:
    """The method that a customer's renewals are charged to: active, or there is none."""
    query = select(PaymentMethod).where(
        PaymentMethod.workspace_id == workspace_id, PaymentMethod.customer_id == customer_id, PaymentMethod.is_default
    )
    return await session.scalar(query)


async def page(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    customer_id: str | None = None,
    status: str | None = None,
) -> Sequence[PaymentMethod]:
    """Newest first."""
    query = select(PaymentMethod).where(PaymentMethod.workspace_id == workspace_id)
    if customer_id is not None:
        query = query.where(PaymentMethod.customer_id == customer_id)
    if status is not None:
        query = query.where(PaymentMethod.status == status)
    query = newest_first(query, PaymentMethod, limit=limit, before=before)
    return (await session.scalars(query)).all()


async def provider_customer(session: AsyncSession, account_id: UUID, customer_id: str) -> str | None:
    """The provider's id of a customer of ours; None where it has none any more."""
    mapping = await session.get(ProviderCustomer, customer_reference(account_id, customer_id))
    return None if mapping is None or mapping.deleted else mapping.provider_customer_id


async def reference_for_customer(session: AsyncSession, account_id: UUID, customer_id: str) -> UUID:
    """Our reference for a customer that is to be made: another one for the successor of one that was deleted.

    Under the first one's reference a provider with idempotency keys would give the deleted customer again.
    """
    reference = customer_reference(account_id, customer_id)
    mapping = await session.get(ProviderCustomer, reference)
    return reference if mapping is None else uuid5(reference, mapping.provider_customer_id)


async def keep_customer(
    session: AsyncSession, account: ProviderAccount, customer_id: str, provider_customer_id: str
) -> str:
    """Put a provider's customer on record. Returns the one on record, which may be another's that was faster."""
    statement = insert(ProviderCustomer).values(
        id=customer_reference(account.id, customer_id),
        workspace_id=account.workspace_id,
        provider_account_id=account.id,
        customer_id=customer_id,
        provider_customer_id=provider_customer_id,
        deleted=False,
    )
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["provider_account_id", "customer_id"],
            set_={"provider_customer_id": provider_customer_id, "deleted": False},
            where=ProviderCustomer.deleted.is_(True),
        )
    )
    known = await provider_customer(session, account.id, customer_id)
    assert known is not None  # noqa: S101  (this statement's or another's)
    await inbox.owner_known(session, account.id, names(token=None, customer=known))
    return known


async def forget_customer(session: AsyncSession, reference: UUID) -> None:
    """The provider no longer knows the customer: the next method makes a new one."""
    mapping = await session.get(ProviderCustomer, reference)
    if mapping is not None:
        mapping.deleted = True


TOKEN, CUSTOMER, MANDATE = "token:", "customer:", "mandate:"
MARKS = (TOKEN, CUSTOMER, MANDATE)


def names(*, token: str | None, customer: str | None, mandate: str | None = None) -> list[str]:
    """What a provider's event about methods names: a method, by the hash of its token, or else a customer."""
    if token is not None:
        of_mandate = [] if mandate is None else [f"{MANDATE}{mandate[:255]}"]
        return [f"{TOKEN}{hash_of(token).hex()}", *of_mandate]
    return [] if customer is None else [f"{CUSTOMER}{customer[:255]}"]


async def of_names(session: AsyncSession, account: ProviderAccount, named: Sequence[str]) -> UUID | None:
    """What such an event is about: a method of ours, or a customer's mapping."""
    for name in named:
        if name.startswith(TOKEN):
            query = select(PaymentMethod.id).where(_has_token(account.id, bytes.fromhex(name.removeprefix(TOKEN))))
            return await session.scalar(query.order_by(PaymentMethod.created_at).limit(1))
        if name.startswith(CUSTOMER):
            known = select(ProviderCustomer.id).where(
                ProviderCustomer.provider_account_id == account.id,
                ProviderCustomer.provider_customer_id == name.removeprefix(CUSTOMER),
            )
            return await session.scalar(known.limit(1))
    return None


async def of_reference(session: AsyncSession, reference: UUID) -> Sequence[PaymentMethod]:
    """The methods that are not detached of a reference as `of_names` gives it."""
    customer = await session.get(ProviderCustomer, reference)
    query = select(PaymentMethod).where(PaymentMethod.status != MethodStatus.DETACHED)
    if customer is None:
        query = query.where(PaymentMethod.id == reference)
    else:
        query = query.where(
            PaymentMethod.provider_account_id == customer.provider_account_id,
            PaymentMethod.provider_customer_id == customer.provider_customer_id,
        )
    return (await session.scalars(query.order_by(PaymentMethod.id))).all()


def _audit(session: AsyncSession, method: PaymentMethod, action: str, actor: str, **details: Any) -> None:
    audit.record(
        session,
        method.workspace_id,
        actor=actor,
        action=f"payment_method.{action}",
        subject=("payment_method", method.id),
        details={"provider": method.provider, "kind": method.kind} | details,
    )
