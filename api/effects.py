"""Dry runs over HTTP: `?dry_run=true` says what a request would write, and nothing of it stays."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, Field

from api.fields import Flag
from storage.rehearsal import Effects

DryRun = Annotated[Flag, Query(description="Say what it would do, checked as the real thing is, and do nothing.")]


class EffectsOut(BaseModel):
    """What the request would write. Amounts are strings in major units."""

    changes: list[dict[str, Any]] = Field(description="subject, id, field, from, to")
    ledger: list[dict[str, Any]] = Field(description="movement, account, amount (debit positive), currency")
    documents: list[dict[str, Any]] = Field(description="kind, number it would get now, net, vat, total")
    notices: list[str] = Field(description="What the order service would be told.")
    audit: list[str]


def effects_out(effects: Effects) -> EffectsOut:
    """As callers see it."""
    return EffectsOut(**asdict(effects))
