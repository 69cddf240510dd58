"""One account's calls: forms out, JSON in; which page code goes with each, and what the answer's data are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.base import CheckoutRef, ProviderMisconfigured, ProviderRejected
from providers.http import ProviderHttp
from providers.meshulam.error_ids import UNKNOWN_PROCESS
from providers.meshulam.errors import answered, data_of
from providers.meshulam.methods import METHODS
from providers.meshulam.objects import Process, process_of

PATH = "/api/light/server/1.0/"


class Calls:
    """Sends each request once. `mark` is put before the ids of transactions that it reads.

    Every call raises ProviderError subclasses, as `data_of` says.
    """

    def __init__(self, http: ProviderHttp, credentials: Mapping[str, str], mark: str) -> None:
        self._http = http
        self._credentials = credentials
        self.mark = mark

    @property
    def of_business(self) -> dict[str, str]:
        """The field that names the business."""
        return {"userId": self._credentials["user_id"]}

    async def send(self, name: str, form: Mapping[str, str], method: str | None = None) -> Mapping[str, Any]:
        """The data of a call's answer, by the page of a method."""
        return data_of(await self._post(name, form, method), name)

    async def send_for_list(self, name: str, form: Mapping[str, str]) -> object:
        """The data as they are, where they may be a list."""
        return answered(await self._post(name, form, None), name)

    async def process(self, ref: CheckoutRef) -> Process:
        """The process behind a reference. Raises ProviderRejected `unknown_process` without its id and token."""
        if ref.session_id is None or ref.session_secret is None:
            raise ProviderRejected(UNKNOWN_PROCESS, "no process id or token on record")
        form = {"processId": ref.session_id, "processToken": ref.session_secret}
        return process_of(await self.send("getPaymentProcessInfo", form, ref.method), ref.session_id, mark=self.mark)

    def page_code(self, method: str | None) -> str:
        """Each method has its page; the default one is the card's. Raises ProviderRejected, ProviderMisconfigured."""
        if method is not None and all(method != one.name for one in METHODS):
            raise ProviderRejected("method_not_supported")
        page_code = page_code_of(self._credentials, method)
        if not page_code:
            raise ProviderMisconfigured("page_code_missing", f"page_code_{method}")
        return page_code

    async def aclose(self) -> None:
        """Release connections. A later call opens new ones."""
        await self._http.aclose()

    async def _post(self, name: str, form: Mapping[str, str], method: str | None) -> object:
        account = {"pageCode": self.page_code(method)}
        if self._credentials.get("api_key"):
            account["apiKey"] = self._credentials["api_key"]
        return await self._http.call("POST", PATH + name, form=account | dict(form))


def page_code_of(credentials: Mapping[str, str], method: str | None) -> str | None:
    """The page code of a method, if the account has one."""
    return credentials.get("page_code" if method in (None, METHODS[0].name) else f"page_code_{method}")
