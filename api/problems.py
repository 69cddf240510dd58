"""Every error that the API answers: one table of stable codes, written as RFC 9457 problem details."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Mount
from starlette.types import Scope

from storage.session import is_outage, is_unstorable

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:durable-payments:problem:"
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
MAX_FAULTS = 20
"""Fields that one answer names."""
MAX_FIELD_NAME = 200
"""Characters of a field's name that are answered; a stranger to our models chose it."""
CODES: dict[str, tuple[int, str]] = {
    "validation_failed": (422, "The request is not valid"),
    "malformed_body": (400, "The body cannot be read"),
    "unauthenticated": (401, "A valid API key is required"),
    "forbidden": (403, "The API key lacks a scope"),
    "workspace_required": (403, "This needs a key of a workspace"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "This method is not supported here"),
    "idempotency_key_reused": (409, "The idempotency key was used with another request"),
    "subscription_cancel_scheduled": (409, "The subscription ends with the period"),
    "subscription_not_changeable": (409, "The subscription cannot be changed so now"),
    "plan_not_available": (422, "The plan cannot be taken"),
    "payment_method_not_active": (409, "The payment method cannot be charged"),
    "order_is_paid": (409, "The order is paid already"),
    "payment_is_final": (409, "The payment is no longer open"),
    "commission_clawed_back": (409, "Nothing is left of the commission"),
    "commission_already_paid": (409, "The commission was paid before"),
    "commission_rejected": (409, "The commission was refused by a review"),
    "commission_held": (409, "The commission is held"),
    "commission_in_payout": (409, "The commission is in a payout batch"),
    "commission_not_in_review": (409, "There is nothing to decide on the commission"),
    "payout_open": (409, "Another payout batch is not finished"),
    "payout_is_final": (409, "The payout batch was decided before"),
    "payout_changed": (409, "The payout batch has changed"),
    "payout_not_approved": (409, "The payout batch is not approved"),
    "payout_line_not_paid": (409, "The line was not paid"),
    "payout_line_has_result": (409, "The line has another result"),
    "approval_by_preparer": (403, "Another key must approve"),
    "payout_file_not_made": (503, "The file is being made"),
    "already_exists": (409, "It exists already"),
    "body_too_large": (413, "The body is too large"),
    "target_too_long": (414, "The address is too long"),
    "headers_too_large": (431, "The headers are too large"),
    "no_provider_account": (422, "The workspace has no account for this payment"),
    "payments_disabled": (403, "The workspace takes no new payments"),
    "currency_not_of_provider": (422, "The provider does not take this currency"),
    "method_unavailable": (422, "The account does not offer this method"),
    "amount_not_representable": (422, "The provider cannot take this amount"),
    "amount_out_of_range": (422, "The amount is outside the method's limits"),
    "name_not_printable": (422, "A document cannot show this name"),
    "payer_data_missing": (422, "The method needs more about the payer"),
    "refund_exceeds_payment": (422, "More than is left to refund"),
    "credit_already_used": (409, "Credit of the payment has paid other invoices"),
    "credit_exceeded": (422, "There is not so much credit"),
    "credit_not_payable": (409, "The credit cannot be paid out"),
    "credit_not_overdrawn": (409, "There is no loss to write off"),
    "payment_not_refundable": (409, "There is nothing to refund"),
    "refund_not_returned": (409, "The refund has not come back"),
    "refund_not_supported": (422, "The provider cannot make this refund"),
    "review_not_open": (409, "Nothing waits for a decision"),
    "review_refused": (409, "The decision does not fit the facts"),
    "surplus_is_final": (409, "This was decided before"),
    "currency_not_of_workspace": (422, "The workspace takes another currency"),
    "provider_declined": (422, "The provider declined"),
    "provider_rejected": (422, "The provider does not accept this payment"),
    "unknown_provider": (422, "There is no such provider"),
    "provider_misconfigured": (502, "The provider refuses the account's credentials"),
    "provider_unavailable": (502, "The provider does not answer"),
    "receipt_not_rendered": (503, "The document is being rendered"),
    "signature_invalid": (400, "The callback is not authentic"),
    "timestamp_out_of_range": (400, "The callback's time is too far from now"),
    "rate_limited": (429, "Too many requests"),
    "internal_error": (500, "Something went wrong on our side"),
    "temporarily_unavailable": (503, "Not possible at this moment"),
}


class Problem(Exception):
    """An error answer. `detail` says what to do and holds neither secrets nor personal data."""

    def __init__(self, code: str, detail: str, *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.headers = headers
        self.extra = extra


def answer(code: str, detail: str, *, headers: dict[str, str] | None = None, **extra: Any) -> JSONResponse:
    """A problem+json response."""
    body = example_of(code) | {"detail": detail} | extra
    return JSONResponse(body, CODES[code][0], media_type=MEDIA_TYPE, headers=headers)


def answers(*codes: str) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: the problems that it can answer, by status, each with an example."""
    described: dict[int | str, dict[str, Any]] = {}
    for code in sorted(codes):
        status, title = CODES[code]
        content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}
        known = described.setdefault(status, {"description": title, "content": {MEDIA_TYPE: content}})
        known["content"][MEDIA_TYPE]["examples"][code] = {"$ref": f"#/components/examples/{code}"}
    return described


def key_reused(**extra: Any) -> Problem:
    """The same Idempotency-Key came with another body."""
    return Problem(
        "idempotency_key_reused",
        "This Idempotency-Key was used with another body; a new request takes a new key.",
        **extra,
    )


def try_again(detail: str = "Try again in a moment.") -> Problem:
    """What is needed is away or not there yet; nothing was done that a repeat would do twice."""
    return Problem("temporarily_unavailable", detail, headers={"retry-after": "2"})


def rate_limited(why: str, until: float) -> Problem:
    """Too much came of late; `until` is when it is forgotten, in seconds since 1970."""
    seconds = max(1, round(until - time.time()))
    return Problem("rate_limited", f"{why}; wait {seconds} s.", headers={"retry-after": str(seconds)})


def unusable_credentials(**extra: Any) -> Problem:
    """The account cannot be used as it is stored."""
    return Problem("provider_misconfigured", "The account's credentials cannot be used; replace them.", **extra)


def example_of(code: str) -> dict[str, Any]:
    """A problem as it is answered; the detail stands for words that say what to do."""
    status, title = CODES[code]
    return {"type": f"{TYPE}{code}", "title": title, "status": status, "code": code, "detail": f"{title}: …"}


def route_of(scope: Scope) -> str:
    """The route's template, for logs: an address holds what a stranger wrote, or a token."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "none"


def install(app: FastAPI) -> None:
    """Make every error of the application a problem."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for kind in (SQLAlchemyError, OSError, TimeoutError):  # an answer like any other: the connection is not cut off
        app.add_exception_handler(kind, _unexpected)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


async def answer_to(request: Request, error: Exception) -> Response:
    """The answer to an error that was raised before the routes, where no handler is installed."""
    if isinstance(error, Problem):
        return await _problem(request, error)
    if isinstance(error, HTTPException):
        return await _http(request, error)
    return await _unexpected(request, error)


async def _gone(_request: Request, _error: Exception) -> Response:
    """The sender hung up in the middle of its body: nobody reads this, and nothing is wrong with us."""
    return answer("malformed_body", "The body did not come to its end.", headers={"connection": "close"})


async def _problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)  # noqa: S101  (registered for this type only)
    return answer(error.code, error.detail, headers=error.headers, **error.extra)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  (registered for this type only)
    found = error.errors()
    if any(fault["type"] == "json_invalid" for fault in found):
        return answer("malformed_body", "The body is not valid JSON.")
    faults = [{"field": _field(fault["loc"]), "message": words_of(fault)} for fault in found[:MAX_FAULTS]]
    summary = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults[:3])
    return answer("validation_failed", summary, errors=faults)


def _field(location: tuple[Any, ...]) -> str:
    named = ".".join(str(part)[:MAX_FIELD_NAME] for part in location[1:]) or str(location[0] if location else "body")
    return named[:MAX_FIELD_NAME]


_WORDS = {
    "missing": "is required",
    "extra_forbidden": "there is no such field",
    "url_parsing": "a whole address, such as https://shop.example/thanks",
    "uuid_parsing": "an id such as 018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79",
    "bool_type": "true or false, without quotes",
    "int_type": "a whole number, without quotes",
    "string_type": "a string",
    "model_attributes_type": "send a JSON object, with the header Content-Type: application/json",
}
_PATTERNS = {
    r"^[A-Z]{3}$": "an ISO 4217 code of three capital letters, such as ILS",
    r"^[A-Z]{2}$": "an ISO 3166 code of two capital letters, such as IL",
    r"^[A-Z]{1,8}$": "capital letters, such as CC",
    r"^(he|en)$": "he or en",
    r"^\d{4}$": "four digits, such as 4242",
    r"^0(\.[0-9]{1,6})?$": "a fraction below 1, such as 0.029",
    r"^[0-9]{1,9}(\.[0-9]{1,4})?$": "a decimal amount in major units, such as 1.20",
    r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$": "3 to 63 small letters, digits and hyphens, no hyphen at either end",
    r"^\d{1,12}(\.\d{1,4})?$": "a decimal amount in major units, such as 1.00",
}
"""What a caller is told in place of the library's words."""


def words_of(fault: Mapping[str, Any]) -> str:
    """What is wrong, without the value: what was sent may be personal."""
    pattern = _PATTERNS.get(str(fault.get("ctx", {}).get("pattern")))
    return _WORDS.get(fault["type"]) or pattern or re.sub(r"^Value error, ", "", str(fault["msg"]))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  (registered for this type only)
    code = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}.get(error.status_code)
    if code is None:
        code = "malformed_body" if error.status_code < 500 else "internal_error"  # noqa: PLR2004
    headers = dict(error.headers) if error.headers else None
    if code == "method_not_allowed":
        headers = {"allow": ", ".join(_methods_of(request))}
    if code == "not_found":
        return answer(code, "There is nothing at this address; /docs lists all routes.", headers=headers)
    if code == "method_not_allowed":
        return answer(code, f"Nothing here takes {request.method}; /docs lists all routes.", headers=headers)
    return answer(code, str(error.detail), headers=headers)


def _methods_of(request: Request) -> list[str]:
    """All methods that some route of this path takes; the router itself names those of the first one."""
    scope, allowed = dict(request.scope), set()
    scope["root_path"] = scope.get("app_root_path", scope.get("root_path", ""))  # as it was before a mount took it
    for route in request.app.router.routes:
        asked = ("GET", "HEAD") if isinstance(route, Mount) else METHODS  # a mount is of files
        allowed |= {one for one in asked if route.matches(scope | {"method": one})[0] is Match.FULL}
    return sorted(allowed)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    if is_outage(error):
        log.warning("database is away", route=route_of(request.scope), error=type(error).__name__)
        return answer("temporarily_unavailable", "Try again in a moment.", headers={"retry-after": "2"})
    if is_unstorable(error):
        return answer("validation_failed", "A value holds a character that cannot be stored, such as NUL.")
    log.error("unexpected error", route=route_of(request.scope), error=type(error).__name__, exc_info=error)
    return answer("internal_error", "The error was logged; nothing was changed that is not on record.")
