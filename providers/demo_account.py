"""How an account of a provider reaches the sandbox: what `make up` and `make demo` connect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """One provider of the demonstration, in the shop with this currency.

    `credentials` makes them, once (from the settings, where they are kept there); `options` follow from the sandbox's
    address. `callbacks` is for a provider whose callback address is registered beforehand: which credential names the
    account to it, and which one it signs with. The others are told the address with each payment.
    """

    currency: str
    credentials: Callable[[Mapping[str, str]], dict[str, str]]
    options: Callable[[str], dict[str, Any]]
    callbacks: tuple[str, str] | None = None
