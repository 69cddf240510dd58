"""The pages that payers see from us: a form on its way to the provider, cash instructions, thanks."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, select_autoescape

from api.context import ServicesDep
from domain.money import Money
from domain.payment import OPEN
from storage import attempts
from storage.models import Attempt, Payment

router = APIRouter(include_in_schema=False)

SUBMIT = "document.getElementById('forward').submit()"
SUBMIT_HASH = base64.b64encode(hashlib.sha256(SUBMIT.encode()).digest()).decode()

_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)


@router.get("/paid")
async def thank_you() -> HTMLResponse:
    """Where payers land when the shop named no page of its own. It does not say that anything was paid."""
    return _page("thanks.html")


@router.get("/checkout/{reference}")
async def checkout(reference: UUID, services: ServicesDep) -> Response:
    """Take the payer to the provider, or show what to say at the counter. The reference is unguessable."""
    async with services.database.transaction() as session:
        found = await attempts.with_payment(session, reference)
    if found is None:
        return _page("gone.html", 404)
    attempt, payment = found
    if attempt.status not in attempts.LIVE or payment.status not in OPEN:  # paid by another way: not twice
        return _page("gone.html", 410)
    if attempt.form is not None:
        form = json.loads(services.sealer.open(attempt.form))
        target = urlsplit(form["action"])
        return _page(
            "forward.html",
            action=form["action"],
            fields=form["fields"],
            form_target=f"{target.scheme}://{target.netloc}",
        )
    if attempt.instructions is not None:
        return _page("cash.html", **_instructions(attempt, payment))
    if attempt.checkout_url is not None and not attempt.checkout_url.startswith(services.limits.public_base_url):
        return RedirectResponse(attempt.checkout_url, 303)
    return _page("gone.html", 404)


def _instructions(attempt: Attempt, payment: Payment) -> dict[str, Any]:
    told = attempt.instructions or {}
    amount = Money.from_decimal(payment.amount, payment.currency)
    until = told.get("expires_at")
    return {
        "network": str(told.get("network", "")).title(),
        "code": told.get("code"),
        "agreement": told.get("agreement"),
        "voucher_url": told.get("voucher_url"),
        "until": None if until is None else str(until)[:16].replace("T", " "),
        "amount": f"{amount} {amount.currency}",
        "description": payment.description,
        "app": told.get("approve_in"),
    }


def _page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page that nobody may frame or cache, and that runs no script but its own one line."""
    target = values.pop("form_target", None)
    policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
    policy += f"; form-action {target}; script-src 'sha256-{SUBMIT_HASH}'" if target else "; form-action 'none'"
    return HTMLResponse(
        _pages.get_template(template).render(submit=SUBMIT, **values),
        status,
        headers={"content-security-policy": policy, "cache-control": "no-store", "referrer-policy": "no-referrer"},
    )
