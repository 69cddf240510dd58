"""PayPlus's HTTP interface: both forms of authentication, and its answers.

They come in an envelope, `results` (`result` for a removed token), which says `error` under HTTP 200 too; a list of
documents says `status` and `details`; and a refusal is as often the bare description, as a text or as a JSON string.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import httpx

from providers.base import (
    OutcomeUnknown,
    ProviderBusy,
    ProviderError,
    ProviderMisconfigured,
    ProviderRejected,
)
from providers.http import ProviderHttp, dumps
from providers.payplus.options import PayPlusAccount
from providers.payplus.wire import JsonObject, first, part
from providers.reading import read_json

GENERATE_LINK = "/PaymentPages/generateLink"
IPN = "/PaymentPages/ipn"
DISABLE = "/PaymentPages/Disable"
CHARGE_METHODS = "/PaymentPages/ChargeMethods"
CHARGE_TOKEN = "/Transactions/Charge"  # noqa: S105  (a path)
REFUND = "/Transactions/RefundByTransactionUID"
VIEW = "/Transactions/View"
TOKEN_CHECK = "/Token/Check"  # noqa: S105  (a path)
TOKEN_REMOVE = "/Token/Remove"  # noqa: S105  (a path)
DOCUMENTS = "/books/docs/list"

_WITH_ID = (DISABLE, TOKEN_CHECK, TOKEN_REMOVE)
"""Paths that end in an id, which errors do not show."""

_REFUSING = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY}
)
"""Statuses under which the envelope is read for the reason; the documents name 400."""
_SLUG = re.compile(r"[A-Za-z][A-Za-z_-]{1,79}|missing-[A-Za-z0-9_.-]{1,60}")
"""A description that is a code; any other may hold personal data."""

_ACCOUNT = (
    "api-key", "secret-key", "authenticat", "authoriz", "permission", "credential", "payment-page-uid", "terminal-uid",
    "find-terminal", "find-cashier",
)  # fmt: skip
_WRONG_PAGE = re.compile(r"find-payment-page(?!-request)")
"""The payment page of the account, and not one that was made for a payment."""
_BUSY = ("too-many-requests", "rate-limit")
_UNSURE = ("internal", "timeout", "time-out", "timed-out", "unexpected", "try-again", "server-error")
"""Parts of descriptions. `can-not-find-payment-page`, `can-not-find-transaction`, `take-is-missing` and
`missing-…-param` are seen in public clients; what is not recognised counts as a refusal of the request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What PayPlus answered: data, or why not. `reason` is the whole description and is for comparing only."""

    data: Any = None
    reason: str | None = None
    code: str = ""
    """The description where it is a bare code that may be shown, else the envelope's number."""

    def accepted(self) -> Any:
        """The data. Raises the ProviderError that the refusal means."""
        if self.reason is not None:
            raise error_of(self)
        return self.data

    def says(self, *parts: str) -> bool:
        """Whether the refusal's description has one of these parts, whatever its dashes, underscores and case."""
        return self.reason is not None and any(plain(one) in self.reason for one in parts)


class PayPlusClient:
    """Calls of one account. Raises ProviderError subclasses only; texts hold statuses, paths and codes."""

    def __init__(self, account: PayPlusAccount, http: ProviderHttp) -> None:
        self._http = http
        self._headers = _headers(account)

    async def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Send one request and read the envelope."""
        return self._read(await self._http.send("POST", path, headers=self._headers, json_body=body), path)

    async def get(self, path: str, params: Mapping[str, str]) -> Answer:
        """Ask, and read the envelope."""
        return self._read(await self._http.send("GET", path, headers=self._headers, params=params), path)

    async def aclose(self) -> None:
        """Release connections."""
        await self._http.aclose()

    def _read(self, response: httpx.Response, path: str) -> Answer:
        status = response.status_code
        name = next((one for one in _WITH_ID if path.startswith(one)), path)
        if status == HTTPStatus.FORBIDDEN and not response.content.strip():
            raise ProviderMisconfigured("unknown_endpoint", f"HTTP 403 without a body at {name}")
        if status in _REFUSING:
            refusal = _refusal_in(response)
            if refusal is not None:
                return refusal
        if not response.is_success:
            self._http.answer_of(response, name)  # raises
        body = _body_of(response, name)
        if isinstance(body, list):  # a list of transactions comes without an envelope to some clients
            return Answer(data=body)
        results = _results_in(body)
        if results.get("status") == "success":
            return Answer(data=first(body, "data", "details"))
        if results.get("status") == "error":
            return _refused(results)
        raise OutcomeUnknown("unreadable_answer", f"no envelope at {name}")


def plain(text: str) -> str:
    """A description for comparing: lower case, its words joined by dashes."""
    return re.sub(r"[\s_-]+", "-", text.strip().lower())


def error_of(answer: Answer) -> ProviderError:
    """The one table from PayPlus's refusals to what is known about the money."""
    if answer.says(*_ACCOUNT) or _WRONG_PAGE.search(answer.reason or ""):
        return ProviderMisconfigured(answer.code, "refused by PayPlus")
    if answer.says(*_BUSY):
        return ProviderBusy("rate_limit", retry_after=timedelta(seconds=1))
    if answer.says(*_UNSURE):
        return OutcomeUnknown(answer.code, "refused by PayPlus")
    return ProviderRejected(answer.code, "refused by PayPlus")


def _refused(results: JsonObject) -> Answer:
    description, number = results.get("description"), results.get("code")
    text = description if isinstance(description, str) else ""
    shown = plain(text) if _SLUG.fullmatch(text) else f"error_{number if type(number) is int else 'unknown'}"
    return Answer(reason=plain(text), code=shown)


def _results_in(body: object) -> JsonObject:
    """What says whether it went well: an object of its own, or the answer itself."""
    if not isinstance(body, Mapping):
        return {}
    found = part(body, "results") or part(body, "result")
    if not found and body.get("status") in ("success", "error") and "results" not in body:
        return {"status": body["status"], "description": first(body, "message", "description")}
    return found


def _refusal_in(response: httpx.Response) -> Answer | None:
    """The refusal in an answer with a status of 4xx: in an envelope, as a JSON string, or as a text that is a code."""
    try:
        body = read_json(response.content)
    except ValueError:
        text = response.text.strip()
        return _refused({"description": text}) if _SLUG.fullmatch(text) else None
    if isinstance(body, str):
        return _refused({"description": body})
    results = _results_in(body)
    return _refused(results) if results.get("status") == "error" else None


def _body_of(response: httpx.Response, name: str) -> Any:
    try:
        return read_json(response.content)
    except ValueError:
        raise OutcomeUnknown("unreadable_answer", f"not JSON at {name}") from None


def _headers(account: PayPlusAccount) -> dict[str, str]:
    if account.auth_form == "authorization":
        pair = {"api_key": account.api_key, "secret_key": account.secret_key}
        return {"authorization": dumps(pair), "accept": "application/json"}
    return {"api-key": account.api_key, "secret-key": account.secret_key, "accept": "application/json"}
