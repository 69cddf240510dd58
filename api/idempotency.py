"""Idempotency-Key: when two requests are one, and answers that are kept for POSTs without an identity of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, get_args
from uuid import UUID

from fastapi import Header
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from sqlalchemy.ext.asyncio import AsyncSession

from api.context import Services
from api.fields import AnyOrder, SameNumber
from api.problems import key_reused
from domain.idempotency import fingerprint, is_repeat
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
_DECIMAL = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")


def fingerprint_of(route: str, body: BaseModel, **path: UUID | str) -> bytes:
    """What a request asks for: the same for the same request, however it was written. The only one for all routes.

    `route` is method and path template (`POST /refunds`), `path` its parameters. The body counts as it was understood:
    what has its default is left out, an amount is a number, a moment is one in every zone, and an order that means
    nothing does not count. So an optional field that comes later changes no request of before.
    """
    return fingerprint(route, {name: str(value) for name, value in path.items()}, _canonical(body))


async def answer_once(
    services: Services,
    *,
    route: str,
    scope: str,
    key: str | None,
    request: BaseModel,
    answer: type[Out],
    work: Callable[[AsyncSession], Awaitable[Out]],
    **path: UUID | str,
) -> Out:
    """Do the work and keep its answer in one transaction, or return the kept one. Raises Problem on a reused key.

    `route` and `path` are as `fingerprint_of` takes them.

    Answers are sealed: some hold a secret that is shown once.
    """
    async with services.database.transaction() as session:
        if key is None:
            return await work(session)
        asked = fingerprint_of(route, request, **path)
        known = await idempotency.claim(session, scope=scope, key=key, fingerprint=asked)
        if known is None:
            out = await work(session)
            body = services.sealer.seal(out.model_dump_json())
            await idempotency.keep(session, scope=scope, key=key, status_code=200, body=body)
            return out
    if not is_repeat(known.fingerprint, asked):
        raise key_reused()
    return answer.model_validate_json(services.sealer.open(known.body))


def _canonical(value: object, marks: frozenset[type] = frozenset()) -> Any:
    """A value of a body as what it means, in plain JSON values. Secrets count, in clear."""
    shown: Any = str(value)
    match value:
        case BaseModel():
            shown = dict(_given(value))
        case Mapping():
            shown = {str(name): _canonical(one, marks) for name, one in value.items()}
        case list():
            shown = [_canonical(one, marks) for one in value]
            shown = sorted({_text(one) for one in shown}) if AnyOrder in marks else shown
        case SecretStr():
            shown = value.get_secret_value()
        case str() if SameNumber in marks:
            shown = _number(value)
        case datetime():
            shown = value.astimezone(UTC).isoformat()
        case None | bool() | int() | float():
            shown = value
    return shown


def _given(body: BaseModel) -> Iterator[tuple[str, Any]]:
    """The fields that say something else than their default."""
    for name, field in type(body).model_fields.items():
        marks = _marks_of(field)
        given = _canonical(getattr(body, name), marks)
        if field.is_required() or _text(given) != _text(
            _canonical(field.get_default(call_default_factory=True, validated_data={}), marks)
        ):
            yield name, given


def _text(canonical: object) -> str:
    return json.dumps(canonical, sort_keys=True)  # for Python 0, 0.0 and False are one


def _marks_of(field: FieldInfo) -> frozenset[type]:
    """How values of a field are compared, as its type says, also as one part of a union or as elements."""

    def marks(annotation: object) -> Iterator[type]:
        yield from (type(mark) for mark in getattr(annotation, "__metadata__", ()))
        for part in get_args(annotation):
            yield from marks(part)

    return frozenset(type(mark) for mark in field.metadata) | frozenset(marks(field.annotation))


def _number(text: str) -> str:
    """One spelling of a decimal number: 29.9 and 29.90 are one amount. Another text stays as it is; it is no amount."""
    parts = _DECIMAL.fullmatch(text)
    if parts is None:
        return text
    sign, whole, fraction = parts[1], parts[2].lstrip("0") or "0", (parts[3] or "").rstrip("0")
    digits = f"{whole}.{fraction}" if fraction else whole
    return digits if digits == "0" else sign + digits
