"""Each field takes the JSON type that the description names for it, and no other that could be made into one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio

from api.app import create_app
from tests.support.service import Service, Shop, admin_key

WRONG: dict[str, list[Any]] = {
    "string": [True, False, 0, 1, 1.5, [], {}],
    "boolean": [0, 1, "true", "false", 1.5, [], {}],
    "integer": [True, False, "1", 1.5, [], {}],
    "array": ["2,5,7", 1, True, {}],
    "object": ["{}", 1, True, []],
}
WRONG_IN_A_QUERY = {
    "boolean": ["1", "0", "yes", "on", "", "2"],
    "integer": ["1.0", "1_0", "", "true", "1e1", " 1"],
    "date": ["0", "1700000000", "2026-11-30T00:00:00", ""],
}
NUMBERS_AS_TEXT = ["0", "1700000000", "1700000000.5"]
NOBODY = str(UUID(int=7))


def spec() -> dict[str, Any]:
    return create_app(nullcontext).openapi()  # type: ignore[arg-type]  # not started


def resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas of which one has to fit."""
    if "$ref" in schema:
        return resolved(schemas[schema["$ref"].rsplit("/", 1)[1]], schemas)
    if "anyOf" in schema:
        return [found for one in schema["anyOf"] for found in resolved(one, schemas)]
    return [schema]


def mistakes(schema: dict[str, Any], schemas: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Values of the wrong type for a schema and all within it, as the whole body, with the name of the field."""
    fits = resolved(schema, schemas)
    kinds = {one.get("type") for one in fits}
    if None in kinds or "any" in kinds:
        if not all("const" in one or "enum" in one for one in fits):
            return
        kinds = {"string"}
    for value in {repr(one): one for kind in kinds & WRONG.keys() for one in WRONG[str(kind)]}.values():
        if not any(_is(value, kind) for kind in kinds):
            yield ".".join(path), _wrapped(path, value)
    if any(one.get("format") in ("date-time", "date") for one in fits):
        for text in NUMBERS_AS_TEXT:
            yield ".".join(path), _wrapped(path, text)
    for one in fits:
        for name, inner in _within(one):
            yield from mistakes(inner, schemas, (*path, name))


def _within(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from schema.get("properties", {}).items()
    for name, inner in (("0", schema.get("items")), ("some", schema.get("additionalProperties"))):
        if isinstance(inner, dict) and inner:
            yield name, inner


def _is(value: Any, kind: str | None) -> bool:
    types = {"string": str, "boolean": bool, "array": list, "object": dict, "null": type(None)}
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return kind in types and isinstance(value, types[kind])


def _wrapped(path: tuple[str, ...], value: Any) -> Any:
    for name in reversed(path):
        value = [value] if name == "0" else {name: value}
    return value


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    found = [(method, path, of) for path, every in spec()["paths"].items() for method, of in every.items()]
    return [(method, path, of) for method, path, of in found if "security" in of]


BODIES = [
    (method, path, of["requestBody"]["content"]["application/json"]["schema"])
    for method, path, of in operations()
    if "application/json" in of.get("requestBody", {}).get("content", {})
]


def test_every_field_of_every_body_is_tried() -> None:
    described = spec()
    schemas = described["components"]["schemas"]
    assert len(BODIES) > 25
    for method, path, schema in BODIES:
        [whole] = [one for one in resolved(schema, schemas) if one.get("type") == "object"]
        tried = {field.split(".")[0] for field, _ in mistakes(schema, schemas, ())}
        assert whole["additionalProperties"] is False, f"{method} {path} takes unknown fields"
        assert set(whole["properties"]) <= tried, f"{method} {path}"


@pytest_asyncio.fixture(scope="module")
async def platform(service: Service) -> str:
    return await admin_key(service)


def key_for(path: str, platform: str, shop: Shop) -> str:
    return platform if path == "/api/v1/workspaces" else shop.api_key


@pytest.mark.parametrize(("method", "path", "schema"), BODIES, ids=[f"{one[0]} {one[1]}" for one in BODIES])
async def test_a_body_with_a_wrong_type_is_refused_by_name(
    service: Service, shop: Shop, platform: str, method: str, path: str, schema: dict[str, Any]
) -> None:
    schemas = spec()["components"]["schemas"]
    concrete = path
    for name in ("referrer_id", "key_id"):
        concrete = concrete.replace(f"{{{name}}}", "partner-5")
    concrete = "/".join(NOBODY if part.startswith("{") else part for part in concrete.split("/"))
    headers = {"authorization": f"Bearer {key_for(path, platform, shop)}", "content-type": "application/json"}

    async def refused(field: str, body: Any) -> str | None:
        answer = await service.http.request(
            method, f"{service.api_url}{concrete}", content=json.dumps(body), headers=headers
        )
        named = {one["field"] for one in answer.json().get("errors", [])} if answer.status_code == 422 else set()
        if any(one == (field or "body") or one.startswith(f"{field}.") for one in named):
            return None
        return f"{field}: {body!r} -> {answer.status_code} {answer.text[:200]}"

    tried = [refused(field, body) for field, body in mistakes(schema, schemas, ())]
    assert not [one for one in await asyncio.gather(*tried) if one is not None]


def asked() -> Iterator[tuple[str, str, str, str]]:
    for method, path, of in operations():
        for parameter in of.get("parameters", ()):
            for one in resolved(parameter["schema"], {}) if "$ref" not in str(parameter["schema"]) else ():
                kind = one.get("format") if one.get("format") == "date" else one.get("type")
                if parameter["in"] == "query" and kind in WRONG_IN_A_QUERY:
                    yield method, path, parameter["name"], str(kind)


async def test_a_query_with_a_wrong_type_is_refused_by_name(service: Service, shop: Shop) -> None:
    headers = {"authorization": f"Bearer {shop.api_key}"}
    tried = list(asked())
    assert {kind for *_, kind in tried} == set(WRONG_IN_A_QUERY)

    async def refused(method: str, path: str, name: str, text: str) -> str | None:
        concrete = "/".join(NOBODY if part.startswith("{") else part for part in path.split("/"))
        answer: httpx.Response = await service.http.request(
            method, f"{service.api_url}{concrete}", params={name: text}, json={}, headers=headers
        )
        named = {one["field"] for one in answer.json().get("errors", [])} if answer.status_code == 422 else set()
        return None if name in named else f"{method} {path}?{name}={text} -> {answer.status_code} {answer.text[:200]}"

    answers = await asyncio.gather(
        *(refused(method, path, name, text) for method, path, name, kind in tried for text in WRONG_IN_A_QUERY[kind])
    )
    assert not [one for one in answers if one is not None]


@pytest.mark.parametrize("text", ["true", "false", "True", "FALSE"])
async def test_a_switch_in_a_query_is_true_or_false(shop: Shop, text: str) -> None:
    assert (await shop.api.get("/plans", params={"active": text})).status_code == 200


@pytest.mark.parametrize("ip", [False, True, 0, 1, 2130706433, "2130706433", "0x7f000001", "1.2.3", "fe80::1%eth0"])
async def test_only_an_address_is_an_ip_address(shop: Shop, ip: object) -> None:
    order = shop.order()
    refused = await shop.api.post("/payments", json=order | {"customer": {"id": "c", "ip": ip}})
    assert refused.status_code == 422
    assert [one["field"] for one in refused.json()["errors"]] == ["customer.ip"]
