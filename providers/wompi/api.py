"""Wompi's HTTP interface, one method a call, every failure as what is known about the money.

Wompi's `reason` and `messages` echo keys and the payer's data, so only types and names of fields are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from providers.base import Bank, OutcomeUnknown, ProviderError, ProviderMisconfigured, ProviderRejected
from providers.http import ProviderHttp
from providers.wompi.account import Account
from providers.wompi.objects import (
    Link,
    Transaction,
    VoidAnswer,
    link_object,
    transaction_of,
    transactions_of,
    void_answer,
)
from providers.wompi.requests import Acceptance

NOT_FOUND = "not_found"
REFERENCE_USED = "reference_used"
"""422 on the field `reference`: an earlier try made a transaction of it, or the reference is not acceptable."""
PAGE_SIZE = 50

_FIELD = re.compile(r"[a-z_]{1,64}", re.ASCII)
_TYPE = re.compile(r"[A-Z_]{1,64}", re.ASCII)


class WompiApi:
    """One merchant's calls. Raises ProviderError subclasses only."""

    def __init__(self, account: Account, http: ProviderHttp) -> None:
        self._account = account
        self._http = http
        self._public = {"authorization": f"Bearer {account.public_key}"}
        self._private = {"authorization": f"Bearer {account.private_key}"}

    async def merchant(self) -> Mapping[str, Any]:
        """Whose public key this is, with fresh acceptance tokens. An unknown key is ProviderMisconfigured."""
        try:
            data = await self._data("GET", f"/merchants/{quote(self._account.public_key, safe='')}")
        except ProviderRejected as rejected:
            if rejected.code == NOT_FOUND:
                raise ProviderMisconfigured("unknown_public_key", "merchants") from None
            raise
        if not isinstance(data, Mapping):
            raise OutcomeUnknown("unreadable_answer", "merchant")
        return data

    async def acceptance(self) -> Acceptance:
        """Fresh tokens; they are short-lived and good for one transaction."""
        merchant = await self.merchant()
        terms = _token(merchant, "presigned_acceptance")
        if terms is None:
            raise OutcomeUnknown("unreadable_answer", "merchant without acceptance token")
        return Acceptance(terms, _token(merchant, "presigned_personal_data_auth"))

    async def transaction(self, transaction_id: str) -> Transaction | None:
        """One transaction; None when there is no such. Wompi shows any merchant's: compare the reference.

        The private key is shown: without it a transaction that exists was seen to be *not found*.
        """
        try:
            return transaction_of(await self._data("GET", _transaction_path(transaction_id), headers=self._private))
        except ProviderRejected as rejected:
            if rejected.code == NOT_FOUND:
                return None
            raise

    async def transactions(self, reference: str) -> list[Transaction]:
        """All transactions of a reference."""
        return [one for one in await self._listed({"reference": reference}) if one.reference == reference]

    async def transactions_between(self, first: date, last: date, page: int) -> list[Transaction]:
        """One page, counted from 1, of the merchant's transactions of these days, newest first."""
        return await self._listed(
            {
                "from_date": first.isoformat(),
                "until_date": last.isoformat(),
                "page": str(page),
                "page_size": str(PAGE_SIZE),
                "order_by": "created_at",
                "order": "DESC",
            }
        )

    async def create_transaction(self, body: Mapping[str, Any]) -> Transaction:
        """Create one. ProviderRejected `reference_used` when there is one of this reference already.

        Clients send the public key with a `payment_method`, a page of the documents names the private one. Unless the
        account says which, the second is tried where the first is refused: a refused key has created nothing.
        """
        match self._account.transactions_key:
            case "private":
                return await self._created(body, self._private)
            case "public":
                return await self._created(body, self._public)
        try:
            return await self._created(body, self._public)
        except ProviderMisconfigured:
            return await self._created(body, self._private)

    async def _created(self, body: Mapping[str, Any], key: Mapping[str, str]) -> Transaction:
        return transaction_of(await self._data("POST", "/transactions", headers=key, json_body=body))

    async def void(self, transaction_id: str) -> VoidAnswer:
        """Void all of a card transaction. The answer may be empty: look afterwards where it does not say."""
        return void_answer(await self._data("POST", f"{_transaction_path(transaction_id)}/void", headers=self._private))

    async def create_link(self, body: Mapping[str, Any]) -> Link:
        """Create a payment link. A repeat makes another one."""
        return link_object(await self._data("POST", "/payment_links", headers=self._private, json_body=body))

    async def link(self, link_id: str) -> Link | None:
        """One payment link; None when there is no such."""
        try:
            return link_object(await self._data("GET", _link_path(link_id), headers=self._private))
        except ProviderRejected as rejected:
            if rejected.code == NOT_FOUND:
                return None
            raise

    async def close_link(self, link_id: str) -> None:
        """Let a payment link take no more payments. A repeat is harmless."""
        await self._data("PATCH", _link_path(link_id), headers=self._private, json_body={"active": False})

    async def banks(self) -> list[Bank]:
        """The banks of PSE today."""
        data = await self._data("GET", "/pse/financial_institutions", headers=self._public)
        if not isinstance(data, list):
            raise OutcomeUnknown("unreadable_answer", "no list of banks")
        banks = [bank for bank in map(_bank, data) if bank is not None]
        if data and not banks:
            raise OutcomeUnknown("unreadable_answer", "no bank can be read")
        return banks

    async def _listed(self, params: Mapping[str, str]) -> list[Transaction]:
        return transactions_of(await self._data("GET", "/transactions", headers=self._private, params=params))

    async def _data(self, method: str, path: str, **parts: Any) -> Any:
        """The `data` of a successful answer, None for an empty one. Paths in errors stop before any id."""
        answer = await self._http.send(method, path, **parts)
        place = path.split("/")[1]
        fault = _fault_of(answer, place)
        if fault is not None:
            raise fault
        value = self._http.answer_of(answer, place)
        return value.get("data") if isinstance(value, Mapping) else None


def _fault_of(answer: httpx.Response, place: str) -> ProviderError | None:
    """The error that an answer states in its body, whatever its status; None leaves it to the status."""
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS or answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return None
    try:
        value = ProviderHttp.json_of(answer, place)
    except OutcomeUnknown:
        return None  # judged by the status, and by `answer_of` where that is good
    fault = value.get("error") if isinstance(value, Mapping) else None
    if fault is None:
        return ProviderRejected(NOT_FOUND, place) if answer.status_code == HTTPStatus.NOT_FOUND else None
    return _stated(fault, answer.status_code, place)


def _stated(fault: object, status: int, place: str) -> ProviderError:
    source: Mapping[str, Any] = fault if isinstance(fault, Mapping) else {}
    kind, messages = source.get("type"), source.get("messages")
    fields = sorted(field for field in messages if _FIELD.fullmatch(field)) if isinstance(messages, Mapping) else []
    detail = ", ".join([f"HTTP {status} at {place}", *fields[:5]])
    match kind:
        case "INVALID_ACCESS_TOKEN":
            return ProviderMisconfigured("invalid_access_token", detail)
        case "NOT_FOUND_ERROR":
            return ProviderRejected(NOT_FOUND, detail)
        case "INPUT_VALIDATION_ERROR":
            return ProviderRejected(REFERENCE_USED if fields == ["reference"] else "invalid_request", detail)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return ProviderMisconfigured(f"http_{status}", detail)
    code = kind.lower() if isinstance(kind, str) and _TYPE.fullmatch(kind) else f"http_{status}"
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.REQUEST_TIMEOUT:
        return ProviderRejected(code, detail)
    return OutcomeUnknown(code, detail)  # an error of no known kind inside a success: it may have acted


def _token(merchant: Mapping[str, Any], field: str) -> str | None:
    signed = merchant.get(field)
    token = signed.get("acceptance_token") if isinstance(signed, Mapping) else None
    return token if isinstance(token, str) and token else None


def _bank(value: object) -> Bank | None:
    source: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
    code, name = source.get("financial_institution_code"), source.get("financial_institution_name")
    return Bank(code, name) if isinstance(code, str) and isinstance(name, str) and code and name else None


def _transaction_path(transaction_id: str) -> str:
    return f"/transactions/{quote(transaction_id, safe='')}"


def _link_path(link_id: str) -> str:
    return f"/payment_links/{quote(link_id, safe='')}"
