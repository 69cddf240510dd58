"""The pages that payers see from us: a form on its way to the provider, cash instructions, thanks."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, select_autoescape

from api.context import ServicesDep
from domain.money import Money
from domain.payment import OPEN, PaymentStatus
from storage import attempts, workspaces
from storage.models import Attempt, Payment

router = APIRouter(include_in_schema=False)

SUBMIT = "document.getElementById('forward').submit()"
SUBMIT_HASH = base64.b64encode(hashlib.sha256(SUBMIT.encode()).digest()).decode()

_PRIVATE = {"cache-control": "no-store", "referrer-policy": "no-referrer", "x-content-type-options": "nosniff"}
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?|\[[0-9a-fA-F:.]{2,45}\](?::[0-9]{1,5})?")

_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)


@router.get("/paid")
async def thank_you() -> HTMLResponse:
    """Where payers land when the shop named no page of its own. It does not say that anything was paid."""
    return _page("thanks.html")


@router.get("/saved")
async def method_saved() -> HTMLResponse:
    """Where customers land after a set-up when the shop named no page of its own. It does not say that it worked."""
    return _page("thanks.html")


@router.get("/checkout/{reference}")
async def checkout(reference: UUID, services: ServicesDep) -> Response:
    """Take the payer to the provider, or show what to say at the counter. The reference is unguessable.

    A provider that cannot close its page would take money for a payment that is over, so nobody is led there any more.
    """
    async with services.database.transaction() as session:
        found = await attempts.with_payment(session, reference)
        workspace = None if found is None else await workspaces.get(session, found[1].workspace_id)
    if found is None or workspace is None:
        return _page("gone.html", 404)
    attempt, payment = found
    if not _may_be_paid(attempt, payment, services.now()):
        return _page("gone.html", 410)
    if attempt.form is not None:
        form = json.loads(services.sealer.open(attempt.form))
        return _page("forward.html", action=form["action"], fields=form["fields"], form_target=_origin(form["action"]))
    if attempt.instructions is not None:
        return _page("cash.html", **_instructions(attempt, payment, ZoneInfo(workspace.timezone)))
    if attempt.checkout_url is not None and not attempt.checkout_url.startswith(f"{services.limits.public_base_url}/"):
        return RedirectResponse(attempt.checkout_url, 303, headers=_PRIVATE)
    return _page("gone.html", 404)


def _may_be_paid(attempt: Attempt, payment: Payment, now: datetime) -> bool:
    """Whether money by this way is still wanted; a flag says that some has come already and a person is looking."""
    return (
        attempt.status in attempts.LIVE
        and PaymentStatus(payment.status) in OPEN
        and payment.flag is None
        and now < payment.expires_at
    )


def _origin(address: str) -> str:
    """Where a form goes, for the policy that allows it: one origin and nothing that could be read as more policy.

    Raises ValueError for an address that has none.
    """
    target = urlsplit(address)
    if target.scheme not in ("https", "http") or not _HOST.fullmatch(target.netloc):
        raise ValueError("a form without an origin to go to")
    return f"{target.scheme}://{target.netloc}"


def _instructions(attempt: Attempt, payment: Payment, zone: ZoneInfo) -> dict[str, Any]:
    """What the page says. Counters close by the clock of the place: the workspace's."""
    told = attempt.instructions or {}
    amount = Money.from_decimal(payment.amount, payment.currency)
    until = None if told.get("expires_at") is None else datetime.fromisoformat(str(told["expires_at"])).astimezone(zone)
    return {
        "network": str(told.get("network", "")).title(),
        "code": told.get("code"),
        "agreement": told.get("agreement"),
        "voucher_url": told.get("voucher_url"),
        "until": None if until is None else f"{until:%Y-%m-%d %H:%M} ({zone.key})",
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
        headers={"content-security-policy": policy, **_PRIVATE},
    )
