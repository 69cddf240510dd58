"""The table of what each provider can do, made from the capability sheets: `python -m providers.table` prints it.

A capability that a sheet does not have is ours to build, unless the provider's `providers/NAME/limits.py` says that the
provider itself cannot do it, or that nobody has confirmed what it does.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec

from providers.base import (
    Capabilities,
    FollowsSubscriptions,
    KnowsDisputes,
    KnowsMandates,
    KnowsRiskAlerts,
    ReadsSettlementFiles,
    ShowsDisputes,
)
from providers.limits import Limit
from providers.registry import NAMES, PROVIDERS


class Cell(StrEnum):
    """What the table says of one capability at one provider."""

    YES = "yes"
    YES_UNCONFIRMED = "yes, unconfirmed"
    OURS = "not built"
    LIMIT = "provider's limit"
    UNCONFIRMED = "unconfirmed"


WORDS: Mapping[str, str] = {
    "redirect_checkout": "a page of the provider's to pay on",
    "direct_payment": "paying in the merchant's own page",
    "bank_list": "the payer chooses a bank (PSE)",
    "refund": "refunds by call",
    "partial_refund": "refunds in parts",
    "lists_refunds": "refunds made at the provider are seen one by one",
    "void": "voids of their own, before the money is taken",
    "closes_checkout": "an open checkout can be closed",
    "status_call": "the provider can be asked what became of a payment",
    "one_checkout_per_reference": "a repeated creation finds the first checkout",
    "looks_up_by_reference": "a lost answer is found by our reference",
    "lists_events": "missed events can be listed",
    "saves_methods": "saving the method while paying",
    "sets_up_methods": "saving a method without a payment",
    "off_session": "charging a saved method (subscriptions)",
    "imports_tokens": "tokens of the provider's own library",
}
FACTS = frozenset({"acknowledges", "customers", "failed_can_become_paid"})
"""Fields of the sheet that say how a provider works: without them nothing is missing."""
PARTS: Mapping[str, tuple[str, tuple[type, ...]]] = {
    "disputes": ("disputes are followed", (KnowsDisputes, ShowsDisputes)),
    "risk_alerts": ("banks' fraud warnings are heard", (KnowsRiskAlerts,)),
    "mandates": ("a mandate that is over ends its saved method", (KnowsMandates,)),
    "subscriptions": ("subscriptions that the provider manages are followed", (FollowsSubscriptions,)),
    "settlement_files": ("settlement files are read", (ReadsSettlementFiles,)),
}
"""Lines for what an adapter has beside the sheet's fields: any of these parts."""
KEYS, WINDOW = "idempotency_keys", "refund_window"
PLANNED: Mapping[str, str] = {
    "captures_later": "authorise now, capture later",
    "instalments": "instalments",
    "line_items": "line items at the provider",
    "provider_documents": "documents by the provider",
}
"""What merchants do with these providers and no sheet has a field for yet; a field takes its line over."""


def lines() -> dict[str, str]:
    """The table's lines in their order: key and words. A field that is new in the sheet has its name for words."""
    fields = [field.name for field in dataclasses.fields(Capabilities) if field.type == "bool"]
    sheet = {name: WORDS.get(name, name.replace("_", " ")) for name in fields if name not in FACTS}
    parts = {key: words for key, (words, _) in PARTS.items()}
    kept = {KEYS: "idempotency keys", WINDOW: "refunds at any time"}
    planned = {key: words for key, words in PLANNED.items() if key not in fields}
    return sheet | kept | parts | planned


def limits_of(name: str) -> Mapping[str, Limit]:
    """A provider's reasons by line; empty where its folder states none."""
    module = f"providers.{name}.limits"
    found: Mapping[str, Limit] = import_module(module).LIMITS if find_spec(module) else {}
    return found


def cell(name: str, line: str) -> str:
    """What the table says of a line at a provider."""
    sheet, reason = PROVIDERS[name].capabilities, limits_of(name).get(line)
    if line == WINDOW and sheet.refund_window is not None:
        return "same day" if not sheet.refund_window.days else f"{sheet.refund_window.days} days"
    has = _has(name, sheet, line)
    if has:
        return Cell.YES_UNCONFIRMED if reason is not None else _yes(sheet, line)
    if reason is None:
        return Cell.OURS
    return Cell.LIMIT if reason.kind == "limit" else Cell.UNCONFIRMED


def _has(name: str, sheet: Capabilities, line: str) -> bool:
    if line in PARTS:
        _, parts = PARTS[line]
        return any(all(hasattr(PROVIDERS[name], member) for member in _members(part)) for part in parts)
    if line == KEYS:
        return sheet.idempotency_key_lifetime is not None
    if line == WINDOW:
        return sheet.refund
    return getattr(sheet, line, False) is True


def _members(part: type) -> Iterator[str]:
    return (member for member in vars(part) if not member.startswith("_"))


def _yes(sheet: Capabilities, line: str) -> str:
    lifetime = sheet.idempotency_key_lifetime
    if line == KEYS and lifetime is not None:
        return f"{Cell.YES}, {lifetime // timedelta(hours=1)} h"
    return Cell.YES


def markdown_table() -> str:
    """The table of docs/providers.md, and below it each reason in words."""
    rows = [f"| | {' | '.join(NAMES)} |", f"|---|{'---|' * len(NAMES)}"]
    rows += [f"| {words} | {' | '.join(cell(name, line) for name in NAMES)} |" for line, words in lines().items()]
    reasons = [f"- {name}: {', '.join(words)}: {why}" for name in NAMES for why, words in _reasons(name).items()]
    return "\n".join([*rows, "", *reasons]) + "\n"


def _reasons(name: str) -> dict[str, list[str]]:
    """A provider's reasons, each with the lines that it is given for, in the table's order."""
    stated, found = limits_of(name), dict[str, list[str]]()
    for line, words in lines().items():
        if line in stated:
            found.setdefault(stated[line].why, []).append(words)
    return found


def main() -> int:
    """Print the table. Returns the exit code."""
    argparse.ArgumentParser(prog="python -m providers.table", description=__doc__).parse_args()
    sys.stdout.write(markdown_table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
