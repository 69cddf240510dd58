"""`api-key`, and new keys for the settings: each works where it belongs, and is shown once."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select

from engine.codec import AesGcmCodec
from storage.administration import SCOPES
from storage.models import AuditEntry
from storage.sealing import Sealer
from tests.cli.running import Operator
from tests.support.service import Service, Shop


async def call(service: Service, key: str, method: str, path: str, **options: Any) -> httpx.Response:
    return await service.http.request(
        method, f"{service.api_url}/api/v1{path}", headers={"authorization": f"Bearer {key}"}, **options
    )


async def made(operator: Operator, *options: str) -> str:
    """The new key, which is all that is printed."""
    (key,) = (await operator("api-key", "create", "--name", "till", *options)).stdout.splitlines()
    assert key.startswith("dp_live_")
    return key


async def test_a_key_may_do_the_usual_things_or_what_its_scopes_say(operator: Operator, shop: Shop) -> None:
    mine = ("--workspace", shop.workspace.slug)
    usual, reader = await made(operator, *mine), await made(operator, *mine, "--scope", "payments:read")
    assert (await call(shop.service, usual, "POST", "/payments", json=shop.order())).status_code == 201
    assert (await call(shop.service, usual, "GET", "/commissions")).status_code == 200
    assert (await call(shop.service, usual, "GET", "/workspaces")).status_code == 403
    assert (await call(shop.service, reader, "GET", "/payments")).status_code == 200
    assert (await call(shop.service, reader, "POST", "/payments", json=shop.order())).status_code == 403


async def test_a_platform_key_administers_every_workspace(operator: Operator, shop: Shop) -> None:
    key = await made(operator, "--platform")
    operator.hidden.add(key)
    listed = (await call(shop.service, key, "GET", "/workspaces")).json()
    assert shop.workspace.slug in [row["slug"] for row in listed]
    assert (await call(shop.service, key, "GET", "/payments")).json()["code"] == "workspace_required"
    shown = (await operator("api-key", "list")).stdout
    assert f"…{key[-4:]}" in shown
    assert shop.workspace.slug not in shown


async def test_a_list_shows_hints_and_a_revoked_key_works_no_more(operator: Operator, shop: Shop) -> None:
    mine = ("--workspace", shop.workspace.slug)
    key = await made(operator, *mine, "--scope", "payments:read", "--scope", "reports:read")
    operator.hidden |= {key, shop.api_key}
    shown = (await operator("api-key", "list", *mine)).stdout.splitlines()
    (line,) = [line for line in shown if f"…{key[-4:]}" in line]
    assert "payments:read, reports:read" in line
    key_id = line.split("│")[1].strip()
    assert (await call(shop.service, key, "GET", "/payments")).status_code == 200
    assert (await operator("api-key", "revoke", key_id)).stdout == "revoked\n"
    assert (await call(shop.service, key, "GET", "/payments")).status_code == 401
    assert (await call(shop.service, shop.api_key, "GET", "/payments")).status_code == 200
    assert await operator.says("api-key", "revoke", key_id) == "There is no such live key."
    async with shop.service.database.transaction() as session:
        entries = await session.execute(
            select(AuditEntry.actor, AuditEntry.action).where(AuditEntry.subject_id == key_id).order_by(AuditEntry.id)
        )
        assert [tuple(row) for row in entries] == [
            ("payment-cli", "api_key.created"),
            ("payment-cli", "api_key.revoked"),
        ]


async def test_wrong_use(operator: Operator, shop: Shop) -> None:
    create = ["api-key", "create", "--name", "till"]
    mine = ["--workspace", shop.workspace.slug]
    assert await operator.says(*create, code=2) == "say whose: --workspace SLUG or --platform"
    assert await operator.says(*create, *mine, "--platform", code=2) == "say whose: --workspace SLUG or --platform"
    message = await operator.says(*create, "--platform", "--scope", "payments:read", code=2)
    assert message == "--platform is the scope admin; --scope goes with --workspace"
    message = await operator.says(*create, *mine, "--scope", "everything", code=2)
    assert all(f"'{scope}'" in message for scope in SCOPES)
    for name in ("", " ", "n" * 101):
        assert "1 to 100 characters" in await operator.says("api-key", "create", *mine, "--name", name, code=2)
    assert "no workspace nowhere" in await operator.says(*create, "--workspace", "nowhere")
    assert "no workspace nowhere" in await operator.says("api-key", "list", "--workspace", "nowhere")
    assert await operator.says("api-key", "revoke", uuid4()) == "There is no such live key."
    assert "is not an id" in await operator.says("api-key", "revoke", "dp_live", code=2)


async def test_a_generated_key_seals_credentials(nobody: Operator) -> None:
    key, other = [(await nobody("generate-key")).stdout.strip() for _ in range(2)]
    assert key != other
    assert Sealer([other, key]).open(Sealer([key]).seal("secret")) == "secret"


async def test_a_generated_codec_key_seals_payloads(nobody: Operator) -> None:
    named = (await nobody("generate-codec-key", "--name", "k-2026.1")).stdout.strip()
    dated, other = [(await nobody("generate-codec-key")).stdout.strip() for _ in range(2)]
    assert named.startswith("k-2026.1:")
    assert dated != other
    for key in (named, dated):
        AesGcmCodec([key])


@pytest.mark.parametrize("name", ["a:b", "a,b", "", "n" * 65])
async def test_a_name_that_settings_could_not_hold_is_refused(nobody: Operator, name: str) -> None:
    assert (await nobody.says("generate-codec-key", "--name", name, code=2)).startswith("--name: ")
