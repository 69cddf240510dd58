"""The HTTP client under the Stripe library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import stripe


class StripeTransport(stripe.HTTPXClient):
    """The library's httpx client, sending forms the way httpx wants them.

    The library hands encoded text over as `data`, which httpx deprecates; where warnings are errors that would look
    like a broken connection. Should the overridden method go away, the library's own way is used again.
    """

    def _get_request_args_kwargs(self, method: str, url: str, headers: Mapping[str, str], post_data: Any) -> list[Any]:
        arguments, options = super()._get_request_args_kwargs(method, url, headers, post_data)
        options["content"] = options.pop("data", None) or None
        return [arguments, options]
