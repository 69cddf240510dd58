"""The HTTP client under the Stripe library."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NoReturn

import httpx
import stripe

from providers import contact


class NotConnected(stripe.APIConnectionError):
    """No connection could be made, so nothing was sent; the library does not tell this from a broken one."""


class StripeTransport(stripe.HTTPXClient):
    """The library's httpx client, sending forms the way httpx wants them.

    The library hands encoded text over as `data`, which httpx deprecates; where warnings are errors that would look
    like a broken connection. Should an overridden method go away, the library's own way is used again.
    """

    def __init__(self, *, timeout: float, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`timeout` in seconds, for the whole call. `transport` says what may be reached and how much may come back."""
        super().__init__(timeout=timeout)
        self._timeout_seconds = timeout
        self._client_async = httpx.AsyncClient(transport=transport)

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request. Raises stripe.APIConnectionError, NotConnected where nothing was sent."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer: tuple[bytes, int, Mapping[str, str]] = await super().request_async(
                    method, url, headers, post_data
                )
        except TimeoutError as error:  # every part of it came in time, and the whole did not
            raise stripe.APIConnectionError("no answer in time") from error  # type: ignore[no-untyped-call]
        contact.heard()
        return answer

    def _handle_request_error(self, e: Exception) -> NoReturn:
        if isinstance(e, httpx.ConnectError | httpx.ConnectTimeout):
            raise NotConnected(type(e).__name__) from e  # type: ignore[no-untyped-call]
        super()._handle_request_error(e)

    def _get_request_args_kwargs(self, method: str, url: str, headers: Mapping[str, str], post_data: Any) -> list[Any]:
        arguments, options = super()._get_request_args_kwargs(method, url, headers, post_data)
        options["content"] = options.pop("data", None) or None
        return [arguments, options]
