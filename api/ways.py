"""Further ways to pay one payment: another method, another provider. One of them is paid, the others are closed."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from api.context import Member, Services, ServicesDep, member
from api.fields import Id, RequestBody, SmallTexts
from api.patience import back_in, come_back, waited
from api.payments import existing_payment, opening_failed
from api.problems import Problem, answers, try_again
from api.routing import Fit, Wanted, route
from domain.payment import OPEN, OpenWay, PaymentStatus, attempt_reference
from engine.payments import EngineUnavailable, NoSuchWorkflow, PaymentIsFinal
from providers.base import CheckoutMode, Payer
from storage import attempts, audit, payments
from storage.models import Attempt, Payment

router = APIRouter(tags=["payments"])

Reader = Annotated[Member, Depends(member("payments:read"))]
Writer = Annotated[Member, Depends(member("payments:write"))]
MOST_WAYS = 10
"""Ways to pay one payment; more are a mistake of the caller."""


class NewWay(RequestBody):
    """Another way to pay the same payment."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"provider": "payu", "method": "efecty"}},
    )

    provider: str | None = Field(None, max_length=32)
    provider_account_id: Id | None = None
    method: str | None = Field(None, max_length=32)
    method_fields: SmallTexts = Field(default_factory=dict, max_length=10)


class WayOut(BaseModel):
    """One way to pay. `status` as payments have it; `paid` settled the payment, `surplus` is money beyond it."""

    number: int
    provider: str
    provider_account_id: UUID
    method: str | None
    status: str
    error_code: str | None
    checkout_url: str | None
    instructions: dict[str, Any] | None


@router.get("/payments/{payment_id}/attempts", summary="Ways to pay a payment")
async def list_ways(payment_id: UUID, caller: Reader, services: ServicesDep) -> list[WayOut]:
    """Every attempt, first to last, failed-over ones too."""
    async with services.database.transaction() as session:
        payment = await existing_payment(session, caller, payment_id)
        return [_out(row, payment) for row in await attempts.of_payment(session, payment_id)]


@router.post(
    "/payments/{payment_id}/attempts",
    status_code=201,
    summary="Open a further way to pay",
    responses=answers(
        "amount_not_representable",
        "amount_out_of_range",
        "currency_not_of_provider",
        "method_unavailable",
        "no_provider_account",
        "payer_data_missing",
        "payment_is_final",
        "provider_declined",
        "provider_misconfigured",
        "provider_rejected",
        "provider_unavailable",
        "unknown_provider",
    )
    | {200: {"model": WayOut, "description": "It is open already"}, 202: {"model": WayOut}},
)
async def open_way(payment_id: UUID, body: NewWay, caller: Writer, services: ServicesDep, response: Response) -> WayOut:
    """Open another checkout for the same payment. Whichever is paid first settles it; the others are closed then.

    202 without an address means that the provider is slow: read the attempts again. A repeat with the same choice
    finds the way that is open already.
    """
    payment, attempt = await _accept(services, caller, payment_id, body)
    if attempt.session_id is not None:
        response.status_code = 200
        return _out(attempt, payment)
    command, begun = OpenWay(payment_id, attempt.reference), services.now() - attempt.created_at
    account = [attempt.provider_account_id]
    try:
        opened = await waited(services, account, lambda wait: services.engine.open_way(command, begun=begun, wait=wait))
    except (PaymentIsFinal, NoSuchWorkflow):
        async with services.database.transaction() as session:
            await attempts.withdraw(session, attempt.id, error_code="payment_is_final")
        raise _is_final() from None
    except EngineUnavailable:
        raise try_again() from None
    if opened is not None and opened.status not in OPEN:
        raise _is_final() if opened.error_code is None else opening_failed(payment, opened, attempt.provider_account_id)
    if opened is None or opened.error_code is not None:
        response.status_code = 202
        response.headers.update(await come_back(services, account))
    async with services.database.transaction() as session:
        fresh = await attempts.with_payment(session, attempt.reference)
    return _out(attempt, payment) if fresh is None else _out(*fresh)


async def _first_not_open(services: Services, payment: Payment) -> Problem:
    """Why there is no further way yet: the first one is being opened, or its provider is asked nothing for now."""
    seconds = await back_in(services, [payment.provider_account_id, *payment.fallback_accounts])
    if seconds is None:
        return try_again("The first way is being opened; try again.")
    return Problem(
        "provider_unavailable",
        f"{payment.provider} does not answer and is asked again in {seconds} s; the first way is opened then.",
        headers={"retry-after": str(seconds)},
    )


def _is_final() -> Problem:
    return Problem("payment_is_final", "The payment is no longer open; start another one.")


async def _accept(services: Services, caller: Member, payment_id: UUID, body: NewWay) -> tuple[Payment, Attempt]:
    """Put the attempt on record under the payment's lock, or find the open one of the same account and method."""
    async with services.database.transaction() as session:
        await existing_payment(session, caller, payment_id)
        payment, workspace = await payments.lock(session, payment_id)
        if PaymentStatus(payment.status) not in OPEN:
            raise Problem("payment_is_final", f"The payment is {payment.status}.", status_now=payment.status)
        if payment.provider_session_id is None:
            raise await _first_not_open(services, payment)
        fitting = await route(
            session,
            services,
            workspace,
            _wanted(payment, body),
            provider=body.provider,
            account_id=body.provider_account_id,
        )
        ways = list(await attempts.of_payment(session, payment_id))
        found = next((way for way in ways if _same(way, fitting[0])), None)
        if found is not None:
            return payment, found
        if len(ways) >= MOST_WAYS:
            raise Problem("validation_failed", f"A payment has at most {MOST_WAYS} ways to pay.")
        number = len(ways) + 1
        await attempts.record(session, payment_id, number, _values(services, fitting[0], body))
        audit.record(
            session,
            workspace.id,
            actor=caller.actor,
            action="payment.way_added",
            subject=("payment", payment_id),
            details={"provider": fitting[0].account.provider, "number": number},
        )
        made = await attempts.by_reference(session, attempt_reference(payment_id, number))
        assert made is not None  # noqa: S101  (written three lines above)
        return payment, made


def _wanted(payment: Payment, body: NewWay) -> Wanted:
    return Wanted(
        amount=payment.money,
        mode=CheckoutMode.HOSTED,
        method=body.method,
        fields=body.method_fields,
        payer=Payer(
            id=payment.customer_id,
            name=payment.customer_name,
            email=payment.customer_email,
            phone=payment.customer_phone,
            document_type=payment.customer_document_type,
            document=payment.customer_document or payment.customer_tax_id,
            ip=payment.customer_ip,
        ),
    )


def _same(way: Attempt, chosen: Fit) -> bool:
    method = None if chosen.method is None else chosen.method.name
    return (
        way.provider_account_id == chosen.account.id
        and way.method == method
        and way.checkout_mode == CheckoutMode.HOSTED
        and way.status in attempts.LIVE
    )


def _values(services: Services, chosen: Fit, body: NewWay) -> dict[str, Any]:
    return {
        "provider": chosen.account.provider,
        "provider_account_id": chosen.account.id,
        "checkout_mode": CheckoutMode.HOSTED.value,
        "method": None if chosen.method is None else chosen.method.name,
        "method_fields": services.sealer.seal_mapping(body.method_fields) if body.method_fields else None,
        "status": PaymentStatus.CREATED.value,
    }


def _out(row: Attempt, payment: Payment) -> WayOut:
    is_open = row.status in attempts.LIVE and payment.status in OPEN
    return WayOut(
        number=row.number,
        provider=row.provider,
        provider_account_id=row.provider_account_id,
        method=row.method,
        status=row.status,
        error_code=row.error_code,
        checkout_url=row.checkout_url if is_open else None,
        instructions=row.instructions if is_open else None,
    )
