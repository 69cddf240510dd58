"""Idempotency-Key for the POSTs that have no identity of their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Header
from pydantic import BaseModel, SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from api.context import Services
from api.problems import key_reused
from storage import idempotency

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Names this request: a repeat with the same key and body gets the same answer.",
        examples=["order-1001-try-1"],
    ),
]

Out = TypeVar("Out", bound=BaseModel)


async def answer_once(
    services: Services,
    *,
    scope: str,
    key: str | None,
    request: BaseModel,
    answer: type[Out],
    work: Callable[[AsyncSession], Awaitable[Out]],
) -> Out:
    """Do the work and keep its answer in one transaction, or return the kept one. Raises Problem on a reused key.

    Answers are sealed: some hold a secret that is shown once.
    """
    async with services.database.transaction() as session:
        if key is None:
            return await work(session)
        fingerprint = _fingerprint(request)
        known = await idempotency.claim(session, scope=scope, key=key, fingerprint=fingerprint)
        if known is None:
            out = await work(session)
            body = services.sealer.seal(out.model_dump_json())
            await idempotency.keep(session, scope=scope, key=key, status_code=200, body=body)
            return out
    if known.fingerprint != fingerprint:
        raise key_reused()
    return answer.model_validate_json(services.sealer.open(known.body))


def _fingerprint(request: BaseModel) -> bytes:
    """The same for the same request. Secrets count, which the model itself would write as asterisks."""
    shown = json.dumps(request.model_dump(), sort_keys=True, default=_revealed)
    return hashlib.sha256(shown.encode()).digest()


def _revealed(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
