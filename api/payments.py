"""Payments: create, read, list, cancel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import (
    BaseModel,
    ConfigDict,
    EmailStr,
    Field,
    HttpUrl,
    ValidationInfo,
    field_validator,
    model_validator,
)
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from api.context import Member, Services, ServicesDep, cut_page, decode_cursor, member
from api.effects import DryRun, EffectsOut
from api.fields import AmountText, Cursor, Id, IpAddress, PageSize, PlainText, RequestBody, SmallTexts
from api.idempotency import IdempotencyKey, fingerprint_of
from api.patience import come_back, waited
from api.payment_methods import chargeable, check_payer
from api.printing import check_names
from api.problems import Problem, answers, key_reused, try_again
from api.routing import Fit, Wanted, check_amount, check_step, lifetime, route
from dispatch.inbox import start_command
from domain.declines import DeclineClass, decline_class
from domain.idempotency import is_repeat
from domain.money import Money, MoneyError
from domain.payment import OPEN, Checkout, PaymentStatus, payment_id_for
from domain.review import ReviewReason
from engine.payments import EngineUnavailable, NoSuchWorkflow, PaymentIsFinal
from providers.base import CheckoutMode, Payer
from storage import attempts, audit, inbox, outbox, payment_methods, payments, receipts, surplus
from storage.models import Payment, Workspace
from storage.rehearsal import rehearsal

router = APIRouter(tags=["payments"])

Reader = Annotated[Member, Depends(member("payments:read"))]
Writer = Annotated[Member, Depends(member("payments:write"))]
SAVED_LIFETIME = timedelta(days=3)
"""How long the payer of a saved method has to confirm to the bank, unless the request says otherwise."""
CANCEL_WAIT = timedelta(seconds=20)


class Customer(RequestBody):
    """Who pays. Printed on the receipt; never written to logs or workflow histories, except the opaque `id`."""

    id: PlainText | None = Field(None, min_length=1, max_length=128, examples=["cust-77"])
    name: PlainText | None = Field(None, max_length=200, examples=["Dana Levi"])
    email: EmailStr | None = Field(None, examples=["dana@example.com"])
    tax_id: PlainText | None = Field(None, max_length=32)
    phone: PlainText | None = Field(None, max_length=32, examples=["0541234567"])
    document_type: str | None = Field(None, pattern=r"^[A-Z]{1,8}$", examples=["CC"])
    document: PlainText | None = Field(None, max_length=32, examples=["1020304050"])
    ip: IpAddress | None = Field(None, description="The payer's IP address, where a provider asks for it.")

    @property
    def payer(self) -> Payer:
        """As providers are told of them."""
        return Payer(
            id=self.id,
            name=self.name,
            email=self.email,
            phone=self.phone,
            document_type=self.document_type,
            document=self.document or self.tax_id,
            ip=None if self.ip is None else str(self.ip),
        )


class NewPayment(RequestBody):
    """A payment to be made. Amounts are decimal strings in major units."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "amount": "129.90",
                "currency": "ILS",
                "order_id": "A-1001",
                "description": "Consultation",
                "customer": {"id": "cust-77", "name": "Dana Levi", "email": "dana@example.com"},
                "referrer_id": "partner-5",
                "success_url": "https://shop.example/thanks",
                "cancel_url": "https://shop.example/cart",
            }
        },
    )

    currency: str = Field(pattern=r"^[A-Z]{3}$", examples=["ILS"])
    amount: AmountText  # after the currency, whose digits it is checked by
    order_id: PlainText = Field(min_length=1, max_length=128, examples=["A-1001"])
    description: PlainText | None = Field(None, max_length=500)
    customer: Customer = Field(default_factory=Customer)
    referrer_id: PlainText | None = Field(None, min_length=1, max_length=128)
    provider: str | None = Field(None, max_length=32, examples=["stripe"])
    provider_account_id: Id | None = None
    checkout_mode: bool = Field(
        default=True, description="true: the provider's hosted page; false: your page with the provider's library."
    )
    method: str | None = Field(
        None, max_length=32, description="One of GET /payments/methods; the account's first one, if not given."
    )
    method_fields: SmallTexts = Field(
        default_factory=dict, max_length=10, description="What the method asks for, such as the payer's bank."
    )
    payment_method_id: Id | None = Field(
        None, description="Charge this saved method; there is no checkout, unless the payer's bank asks for one."
    )
    off_session: bool = Field(
        default=True, description="With payment_method_id: the payer is away. false: the payer is waiting."
    )
    save_method: bool = Field(default=False, description="Save what the payer pays with; customer.id is needed.")
    success_url: HttpUrl | None = None
    cancel_url: HttpUrl | None = None
    language: str | None = Field(None, pattern=r"^(he|en)$", description="Language of the receipt.")
    expires_in_seconds: int | None = Field(None, ge=60, le=30 * 24 * 3600)
    metadata: SmallTexts = Field(default_factory=dict, max_length=20)

    @field_validator("currency")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            Money.zero(value)
        except MoneyError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("amount")
    @classmethod
    def _positive(cls, value: str, info: ValidationInfo) -> str:
        if "currency" not in info.data:  # that fault is told already
            return value
        try:
            money = Money.parse(value, info.data["currency"])
        except MoneyError as error:
            raise ValueError(str(error)) from None
        if money.minor <= 0:
            raise ValueError("must be greater than zero")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> NewPayment:
        if self.payment_method_id is not None:
            chosen = (self.provider, self.provider_account_id, self.method, self.method_fields or None)
            if any(one is not None for one in chosen) or not self.checkout_mode or self.save_method:
                raise ValueError("payment_method_id: it says how to pay; leave provider, method and the like out")
        elif self.save_method and self.customer.id is None:
            raise ValueError("save_method: customer.id says whose method it will be")
        return self

    @property
    def money(self) -> Money:
        """The amount, exact."""
        return Money.parse(self.amount, self.currency)

    @property
    def wanted(self) -> Wanted:
        """What the payment asks of an account."""
        return Wanted(
            amount=self.money,
            mode=CheckoutMode.HOSTED if self.checkout_mode else CheckoutMode.DIRECT,
            method=self.method,
            fields=self.method_fields,
            save_method=self.save_method,
            payer=self.customer.payer,
        )


class PaymentOut(BaseModel):
    """A payment as callers see it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "736bceb7-640b-57b9-bccf-02bb69b2f788",
                "status": "pending",
                "status_reason": None,
                "review_reason": None,
                "flag": None,
                "disputed": False,
                "amount": "129.90",
                "refunded": "0.00",
                "fee": "0.00",
                "currency": "ILS",
                "order_id": "A-1001",
                "description": "Consultation",
                "customer_id": "cust-77",
                "referrer_id": "partner-5",
                "provider": "stripe",
                "provider_account_id": "018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79",
                "provider_transaction_id": None,
                "method": "card",
                "checkout_url": "https://checkout.example/c/pay/cs_test_63f9e7bc1abcca1489464430",
                "expires_at": "2026-11-21T17:52:51.104717Z",
                "paid_at": None,
                "created_at": "2026-11-21T16:52:51.104717Z",
                "metadata": {},
            }
        }
    )

    id: UUID
    status: PaymentStatus
    status_reason: str | None
    review_reason: ReviewReason | None = Field(
        None, description="Set when a person must decide; GET /payments/{id}/review has the acts."
    )
    flag: str | None = Field(description="The same; its name goes with the next version.")
    disputed: bool
    amount: str
    refunded: str
    fee: str = Field(description="What the provider is expected to keep of it, by the account's schedule.")
    currency: str
    order_id: str
    description: str
    customer_id: str | None
    referrer_id: str | None
    provider: str
    provider_account_id: UUID
    provider_transaction_id: str | None
    method: str | None
    payment_method_id: UUID | None = None
    decline_class: DeclineClass | None = Field(
        None, description="Of a failed payment: hard, soft, action_required or unknown."
    )
    checkout_url: str | None
    instructions: dict[str, Any] | None = Field(
        None, description="Cash: network, code, agreement, expires_at, voucher_url. Or approve_in: the payer's app."
    )
    client_secret: str | None = Field(None, description="Direct mode, while the payment is open.")
    receipt_id: UUID | None = None
    expires_at: datetime
    paid_at: datetime | None
    created_at: datetime
    metadata: dict[str, Any]


class PaymentPage(BaseModel):
    """A page of payments, newest first."""

    data: list[PaymentOut]
    next_cursor: str | None


class CancelOut(BaseModel):
    """The status after a cancel; still open when the provider has not answered yet."""

    id: UUID
    status: PaymentStatus


class CancelEffects(EffectsOut):
    """What a cancel would do, unless money is faster. `ways` says which can be closed at their provider."""

    ways: list[dict[str, Any]] = Field(description="number, provider, method, status, closes")


class TimelineEntry(BaseModel):
    """One thing that happened."""

    at: datetime
    source: str
    what: str
    details: dict[str, Any]


@router.post(
    "/payments",
    status_code=201,
    summary="Start a payment",
    responses=answers(
        "amount_not_representable",
        "amount_out_of_range",
        "currency_not_of_provider",
        "currency_not_of_workspace",
        "idempotency_key_reused",
        "method_unavailable",
        "no_provider_account",
        "not_found",
        "order_is_paid",
        "name_not_printable",
        "payer_data_missing",
        "payment_method_not_active",
        "payments_disabled",
        "provider_declined",
        "provider_misconfigured",
        "provider_rejected",
        "unknown_provider",
    )
    | {200: {"model": PaymentOut, "description": "A repeat"}, 202: {"model": PaymentOut}},
)
async def create_payment(
    body: NewPayment, caller: Writer, services: ServicesDep, response: Response, idempotency_key: IdempotencyKey = None
) -> PaymentOut:
    """Start the payment's workflow and answer with the address where the payer pays.

    202 without an address means that the provider is slow: the payment goes on, read it again. `status_reason` says
    why, once that is known. With `payment_method_id` the saved method is charged: the answer is `paid`,
    `requires_action` with an address where the payer confirms, or the problem `provider_declined`.
    """
    payment, created = await _accept(services, caller, body, idempotency_key)
    if not created and payment.status != PaymentStatus.CREATED:
        response.status_code = 200
        return await _with_receipt(services, payment)
    checkout = await _start(services, payment)
    if checkout is None:
        response.status_code = 202
        response.headers.update(await come_back(services, _route_of(payment)))
        async with services.database.transaction() as session:  # it may say by now why there is no address yet
            return _out(services, await existing_payment(session, caller, payment.id))
    if checkout.error_code is not None and checkout.status is PaymentStatus.FAILED:
        raise opening_failed(payment, checkout, payment.provider_account_id)
    if payment.checkout_mode != CheckoutMode.HOSTED or not created or _has_more(services, payment, checkout):
        async with services.database.transaction() as session:
            payment = await existing_payment(session, caller, payment.id)
    else:
        payment.status, payment.checkout_url = checkout.status.value, checkout.url
    response.headers["location"] = f"/api/v1/payments/{payment.id}"
    return await _with_receipt(services, payment)


@router.get("/payments/{payment_id}", summary="Read a payment")
async def read_payment(payment_id: UUID, caller: Reader, services: ServicesDep) -> PaymentOut:
    """The payment as it is on record."""
    async with services.database.transaction() as session:
        payment = await existing_payment(session, caller, payment_id)
    return await _with_receipt(services, payment)


@router.get("/payments", summary="List payments")
async def list_payments(
    caller: Reader,
    services: ServicesDep,
    limit: PageSize = 20,
    cursor: Cursor = None,
    status: PaymentStatus | None = None,
    order_id: Annotated[str | None, Query(max_length=128)] = None,
) -> PaymentPage:
    """Newest first. Pass `next_cursor` of one page as `cursor` of the next."""
    async with services.database.transaction() as session:
        rows = await payments.page(
            session,
            caller.workspace.id,
            limit=limit + 1,
            before=decode_cursor(cursor),
            status=None if status is None else status.value,
            order_id=order_id,
        )
        shown, more = cut_page(rows, limit)
        issued = await receipts.of_payments(session, [row.id for row in shown if row.paid_at is not None])
    return PaymentPage(data=[_out(services, row, issued.get(row.id)) for row in shown], next_cursor=more)


@router.post(
    "/payments/{payment_id}/cancel",
    summary="Cancel a payment",
    responses=answers("payment_is_final") | {202: {"model": CancelOut}},
)
async def cancel_payment(
    payment_id: UUID, caller: Writer, services: ServicesDep, response: Response, *, dry_run: DryRun = False
) -> CancelOut | CancelEffects:
    """Close the checkout at the provider. Answers `paid` when the money was faster, 202 when it is still under way."""
    if dry_run:
        return await _rehearse_cancel(services, caller, payment_id)
    async with services.database.transaction() as session:
        payment = await existing_payment(session, caller, payment_id)
    if payment.status == PaymentStatus.CANCELED:
        return CancelOut(id=payment_id, status=PaymentStatus.CANCELED)
    try:
        status = await services.engine.cancel(payment_id, wait=CANCEL_WAIT)
    except (PaymentIsFinal, NoSuchWorkflow):
        async with services.database.transaction() as session:
            payment = await existing_payment(session, caller, payment_id)
        if payment.status == PaymentStatus.CREATED:
            raise try_again("The payment is being started; try again in a moment.") from None
        raise Problem("payment_is_final", f"The payment is {payment.status}.", status_now=payment.status) from None
    except EngineUnavailable:
        raise try_again() from None
    if status is None:
        response.status_code = 202
        return CancelOut(id=payment_id, status=PaymentStatus(payment.status))
    if status in OPEN:  # a slow method is at work, such as a bank debit: only its bank can end it
        response.status_code = 202
    return CancelOut(id=payment_id, status=status)


@router.get("/payments/{payment_id}/timeline", summary="What happened to a payment")
async def read_timeline(payment_id: UUID, caller: Reader, services: ServicesDep) -> list[TimelineEntry]:
    """Audit entries, callbacks and order notifications of one payment, in order of time."""
    async with services.database.transaction() as session:
        await existing_payment(session, caller, payment_id)
        entries = [
            TimelineEntry(at=entry.at, source=entry.actor, what=entry.action, details=entry.details)
            for entry in await audit.entries_about(session, caller.workspace.id, "payment", payment_id)
        ]
        details: dict[str, Any]
        for event in await inbox.events_of(session, payment_id):
            details = {"event": event.event_id, "status": event.status, "outcome": event.outcome}
            entries.append(
                TimelineEntry(
                    at=event.received_at,
                    source=f"webhook:{event.provider}",
                    what=event.type,
                    details=details | {"deliveries": event.deliveries},
                )
            )
        for notice in await outbox.notices_of(session, payment_id):
            details = {"id": str(notice.id), "status": notice.status, "attempts": notice.attempts}
            entries.append(
                TimelineEntry(
                    at=notice.delivered_at or notice.created_at,
                    source="order notification",
                    what=notice.type,
                    details=details | {"last_error": notice.last_error},
                )
            )
    return sorted(entries, key=lambda entry: entry.at)


async def _accept(
    services: Services, caller: Member, body: NewPayment, idempotency_key: str | None
) -> tuple[Payment, bool]:
    """Put the payment on record, or find the one that the key names. Raises Problem on a reused key.

    A repeat finds its payment also when the workspace or its accounts would no longer take a new one.
    """
    workspace = caller.workspace
    payment_id = uuid7() if idempotency_key is None else payment_id_for(workspace.id, idempotency_key)
    async with services.database.transaction() as session:
        try:
            fitting, saved = await _fitting(session, services, workspace, body)
        except Problem:
            known = None if idempotency_key is None else await payments.get(session, workspace.id, payment_id)
            if known is None:
                raise
            return _repeated(known, body), False
        values = _values(services, caller, body, fitting, payment_id, idempotency_key) | saved
        created = await payments.insert_new(session, values)
        if created:
            audit.record(
                session,
                workspace.id,
                actor=caller.actor,
                action="payment.created",
                subject=("payment", payment_id),
                details={"amount": body.amount, "currency": body.currency, "provider": values["provider"]},
            )
            values["extra"] = values.pop("metadata")
            return Payment(**values, status="created", disputed=False), True
        return _repeated(await existing_payment(session, caller, payment_id), body), False


async def _fitting(
    session: AsyncSession, services: Services, workspace: Workspace, body: NewPayment
) -> tuple[list[Fit], dict[str, Any]]:
    """The accounts to try, and the columns of a payment that charges a saved method.

    Raises Problem when a new payment cannot be taken as it is.
    """
    if not workspace.payments_enabled:
        raise Problem("payments_disabled", "An administrator switches them on: PATCH /api/v1/workspaces/{id}.")
    if body.currency != workspace.currency:
        raise Problem("currency_not_of_workspace", f"This workspace takes {workspace.currency}.")
    check_names({"customer.name": body.customer.name})
    if body.payment_method_id is not None:
        if workspace.one_capture_per_order and await surplus.order_is_paid(session, workspace.id, body.order_id):
            raise Problem("order_is_paid", "Another payment of this order was captured; nothing was charged.")
        method, account, sheet = await chargeable(
            session, services, workspace, body.payment_method_id, body.customer.id
        )
        check_payer(account.provider, sheet, body.customer)
        check_step(account.provider, sheet, body.money)
        check_amount(account, None, body.money)
        columns = payment_methods.charged_to(method, off_session=body.off_session)
        return [Fit(account, sheet, None)], columns | {"customer_id": method.customer_id}
    fitting = await route(
        session, services, workspace, body.wanted, provider=body.provider, account_id=body.provider_account_id
    )
    return fitting, {"save_method": body.save_method}


def _repeated(known: Payment, body: NewPayment) -> Payment:
    """The payment that the key has made. Raises Problem when that was another request."""
    if not is_repeat(known.fingerprint, fingerprint_of("POST /payments", body)):
        raise key_reused(payment_id=str(known.id))
    return known


def _values(
    services: Services,
    caller: Member,
    body: NewPayment,
    fitting: Sequence[Fit],
    payment_id: UUID,
    idempotency_key: str | None,
) -> dict[str, Any]:
    now, first, customer = services.now(), fitting[0], body.customer
    lives = lifetime(first, body.expires_in_seconds, services.limits.checkout_expires_seconds)
    if body.payment_method_id is not None:  # there is no page that a provider would close
        asked = body.expires_in_seconds
        lives = SAVED_LIFETIME if asked is None else timedelta(seconds=asked)
    return {
        "id": payment_id,
        "workspace_id": caller.workspace.id,
        "provider_account_id": first.account.id,
        "provider": first.account.provider,
        "fallback_accounts": [one.account.id for one in fitting[1:]],
        "method": body.method if first.method is None else first.method.name,
        "method_fields": services.sealer.seal_mapping(body.method_fields) if body.method_fields else None,
        "order_id": body.order_id,
        "amount": body.money.to_decimal(),
        "currency": body.currency,
        "checkout_mode": (CheckoutMode.HOSTED if body.checkout_mode else CheckoutMode.DIRECT).value,
        "description": body.description or f"Order {body.order_id}",
        "customer_id": customer.id,
        "customer_name": customer.name,
        "customer_email": customer.email,
        "customer_tax_id": customer.tax_id,
        "customer_phone": customer.phone,
        "customer_document_type": customer.document_type,
        "customer_document": customer.document,
        "customer_ip": None if customer.ip is None else str(customer.ip),
        "referrer_id": body.referrer_id,
        "language": body.language or caller.workspace.language,
        "success_url": str(body.success_url or f"{services.limits.public_base_url}/paid"),
        "cancel_url": None if body.cancel_url is None else str(body.cancel_url),
        "metadata": body.metadata,
        "idempotency_key": idempotency_key,
        "fingerprint": fingerprint_of("POST /payments", body),
        "expires_at": now + lives,
        "created_at": now,
        "updated_at": now,
    }


def _route_of(payment: Payment) -> list[UUID]:
    return [payment.provider_account_id, *payment.fallback_accounts]


async def _start(services: Services, payment: Payment) -> Checkout | None:
    """The checkout, or None when it is not there yet; the payment is on record and is started later if need be."""
    command = start_command(payment, services.poll)
    try:
        return await waited(services, _route_of(payment), lambda wait: services.engine.start(command, wait=wait))
    except EngineUnavailable:
        return None


def _has_more(services: Services, payment: Payment, checkout: Checkout) -> bool:
    """Whether opening may have recorded more than a provider's address: instructions, or another account."""
    ours = checkout.url is not None and checkout.url.startswith(f"{services.limits.public_base_url}/")
    return checkout.url is None or ours or bool(payment.fallback_accounts)


def opening_failed(payment: Payment, checkout: Checkout, account_id: UUID) -> Problem:
    """What the caller is told when the account's provider refused to open a checkout."""
    code, detail = checkout.error_code or "provider_unavailable", checkout.error_detail or ""
    problem = {"ProviderMisconfigured": "provider_misconfigured", "ProviderDeclined": "provider_declined"}.get(
        checkout.error_type or "", "provider_rejected"
    )
    more = f" ({detail.rstrip('.')})" if detail not in ("", code) else ""
    declined: dict[str, Any] = {}
    if problem == "provider_declined":
        declined["decline_class"] = decline_class(code).value
    advice = f" Run payment-cli account check {account_id}." if problem == "provider_misconfigured" else ""
    return Problem(
        problem,
        f"The provider answered {code}{more}.{advice}",
        payment_id=str(payment.id),
        provider_code=code,
        **declined,
    )


async def _rehearse_cancel(services: Services, caller: Member, payment_id: UUID) -> CancelEffects:
    async with rehearsal(services.database) as (session, effects):
        await existing_payment(session, caller, payment_id)
        payment, workspace = await payments.lock(session, payment_id)
        if payment.status not in OPEN:
            raise Problem("payment_is_final", f"The payment is {payment.status}.", status_now=payment.status)
        payments.change_status(
            session, workspace, payment, PaymentStatus.CANCELED, at=services.now(), actor=caller.actor
        )
        loaded = await attempts.load(session, payment_id)
        ways = [
            {
                "number": way.attempt.number,
                "provider": way.account.provider,
                "method": way.attempt.method,
                "status": way.attempt.status,
                "closes": services.pool.of(way.account).capabilities.closes(way.attempt.method),
            }
            for way in (loaded.ways if loaded else [])
            if way.attempt is not None
        ]
    return CancelEffects(**asdict(effects), ways=ways)


async def existing_payment(session: AsyncSession, caller: Member, payment_id: UUID) -> Payment:
    """The caller's payment. Raises Problem not_found, also for another workspace's."""
    payment = await payments.get(session, caller.workspace.id, payment_id)
    if payment is None:
        raise Problem("not_found", "This workspace has no such payment.")
    return payment


async def _with_receipt(services: Services, payment: Payment) -> PaymentOut:
    receipt = None
    if payment.paid_at is not None:
        async with services.database.transaction() as session:
            receipt = await receipts.of_payment(session, payment.id)
    return _out(services, payment, None if receipt is None else receipt.id)


def _out(services: Services, payment: Payment, receipt_id: UUID | None = None) -> PaymentOut:
    status = PaymentStatus(payment.status)
    is_open = status in (PaymentStatus.PENDING, PaymentStatus.REQUIRES_ACTION)
    secret = services.sealer.open(payment.client_secret) if is_open and payment.client_secret else None
    return PaymentOut(
        id=payment.id,
        status=status,
        status_reason=payment.status_reason,
        review_reason=None if payment.flag is None else ReviewReason(payment.flag),
        flag=payment.flag,
        disputed=payment.disputed,
        amount=str(Money.from_decimal(Decimal(payment.amount), payment.currency)),
        refunded=str(Money.from_decimal(payment.refunded or Decimal(0), payment.currency)),
        fee=str(Money.from_decimal(payment.fee or Decimal(0), payment.currency)),
        currency=payment.currency,
        order_id=payment.order_id,
        description=payment.description,
        customer_id=payment.customer_id,
        referrer_id=payment.referrer_id,
        provider=payment.provider,
        provider_account_id=payment.provider_account_id,
        provider_transaction_id=payment.provider_transaction_id,
        method=payment.method,
        payment_method_id=payment.payment_method_id,
        decline_class=decline_class(payment.status_reason) if status is PaymentStatus.FAILED else None,
        checkout_url=payment.checkout_url if is_open else None,
        instructions=payment.instructions if is_open else None,
        client_secret=secret,
        receipt_id=receipt_id,
        expires_at=payment.expires_at,
        paid_at=payment.paid_at,
        created_at=payment.created_at,
        metadata=payment.extra,
    )
