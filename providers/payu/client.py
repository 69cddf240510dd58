"""PayU's two interfaces, payments and queries: one address each, the command is in the body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from providers.base import OutcomeUnknown
from providers.http import ProviderHttp
from providers.payu.account import PayuAccount
from providers.payu.errors import refused

JsonObject: TypeAlias = Mapping[str, Any]

PAYMENTS = "/payments-api/4.0/service.cgi"
QUERIES = "/reports-api/4.0/service.cgi"
_HEADERS = {"accept": "application/json"}
"""Without it PayU answers in XML."""
_LANGUAGE = "en"
"""Of error texts, which are searched for words; the payer's language is in the order."""


class PayuClient:
    """Sends commands of one account. Raises ProviderError subclasses only."""

    def __init__(self, account: PayuAccount, http: ProviderHttp) -> None:
        self._account = account
        self._http = http

    async def submit(self, transaction: JsonObject) -> JsonObject:
        """SUBMIT_TRANSACTION: the `transactionResponse`."""
        answer = await self._call(PAYMENTS, "SUBMIT_TRANSACTION", {"transaction": transaction})
        response = answer.get("transactionResponse")
        if not isinstance(response, Mapping):
            raise OutcomeUnknown("unreadable_answer", "no transactionResponse")
        return response

    async def banks(self) -> Any:
        """GET_BANKS_LIST: the list as it is."""
        wanted = {"paymentMethod": "PSE", "paymentCountry": "CO"}
        return (await self._call(PAYMENTS, "GET_BANKS_LIST", {"bankListInformation": wanted})).get("banks")

    async def ping(self) -> None:
        """PING on both interfaces."""
        for path in (PAYMENTS, QUERIES):
            await self._call(path, "PING", {})

    async def orders(self, reference: str) -> Any:
        """ORDER_DETAIL_BY_REFERENCE_CODE: the payload, None when nothing is known."""
        return await self._query("ORDER_DETAIL_BY_REFERENCE_CODE", {"referenceCode": reference})

    async def transaction(self, transaction_id: str) -> Any:
        """TRANSACTION_RESPONSE_DETAIL: the payload, None when nothing is known."""
        return await self._query("TRANSACTION_RESPONSE_DETAIL", {"transactionId": transaction_id})

    async def _query(self, command: str, details: JsonObject) -> Any:
        result = (await self._call(QUERIES, command, {"details": details})).get("result")
        return result.get("payload") if isinstance(result, Mapping) else result

    async def _call(self, path: str, command: str, parts: JsonObject) -> JsonObject:
        account = self._account
        body = {
            "language": _LANGUAGE,
            "command": command,
            "merchant": {"apiLogin": account.api_login, "apiKey": account.signing.api_key},
            "test": account.test_flag,
            **parts,
        }
        answer = await self._http.call("POST", path, json_body=body, headers=_HEADERS)
        if isinstance(answer, Mapping) and answer.get("code") == "SUCCESS":
            return answer
        if isinstance(answer, Mapping) and answer.get("code") == "ERROR":
            raise refused(answer.get("error"), command)
        raise OutcomeUnknown("unreadable_answer", f"neither SUCCESS nor ERROR to {command}")
