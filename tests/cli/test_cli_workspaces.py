"""`workspace`: tenants are created and changed under the rules of the API, with its words."""

from __future__ import annotations

import base64
import json
import secrets
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from storage import workspaces
from storage.models import AuditEntry, Workspace
from tests.cli.running import Operator
from tests.support.service import Service, Shop, admin_key

NEW_SECRET = "whsec_" + base64.b64encode(b"s" * 24).decode()


@pytest.fixture
def slug() -> str:
    return f"made-{secrets.token_hex(6)}"


def creation(slug: str, *options: object) -> list[object]:
    return ["workspace", "create", slug, "--name", "Clinic North", "--currency", "ILS", *options]


async def row_of(service: Service, slug: str) -> Workspace:
    async with service.database.transaction() as session:
        found = await workspaces.by_slug(session, slug)
    assert found is not None
    return found


async def audited(service: Service, row: Workspace) -> list[tuple[str, str, dict[str, Any]]]:
    query = select(AuditEntry.actor, AuditEntry.action, AuditEntry.details).where(
        AuditEntry.workspace_id == row.id, AuditEntry.subject_type == "workspace"
    )
    async with service.database.transaction() as session:
        return [(actor, action, details) for actor, action, details in await session.execute(query)]


async def test_a_workspace_with_the_usual_settings(operator: Operator, service: Service, slug: str) -> None:
    shown = (await operator(*creation(slug))).stdout
    row = await row_of(service, slug)
    assert str(row.id) in shown
    assert (row.name, row.legal_name, row.currency, row.country) == ("Clinic North", "Clinic North", "ILS", "IL")
    assert (row.timezone, row.language, row.dealer) == ("Asia/Jerusalem", "en", "company")
    assert (row.vat_rate, row.commission_rate, row.commission_minimum) == (Decimal(0), Decimal(0), Decimal(1))
    assert await audited(service, row) == [
        ("payment-cli", "workspace.created", {"slug": slug, "currency": "ILS"}),
    ]


async def test_every_setting_is_kept_and_the_secret_sealed(operator: Operator, service: Service, slug: str) -> None:
    operator.hidden.add(NEW_SECRET)
    options = {
        "--country": "CO",
        "--timezone": "America/Bogota",
        "--language": "he",
        "--dealer": "foreign",
        "--legal-name": "North Ltd",
        "--legal-name-he": "צפון בע״מ",
        "--business-number": "514000009",
        "--address": "1 Road",
        "--vat-rate": "0.19",
        "--commission-rate": "0.075",
        "--commission-minimum": "2.50",
        "--order-webhook-url": "https://shop.example/hooks",
        "--order-webhook-secret": "-",
    }
    await operator(*creation(slug, *(part for pair in options.items() for part in pair)), typed=f"{NEW_SECRET}\n")
    row = await row_of(service, slug)
    kept = [row.country, row.timezone, row.language, row.dealer, row.legal_name, row.legal_name_he]
    kept += [row.business_number, row.address]
    assert kept == list(options.values())[:8]
    assert (row.vat_rate, row.commission_rate) == (Decimal("0.19"), Decimal("0.075"))
    assert (row.commission_minimum, row.order_webhook_url) == (Decimal("2.5"), "https://shop.example/hooks")
    assert row.order_webhook_secret is not None
    assert NEW_SECRET.encode() not in row.order_webhook_secret
    assert service.sealer.open(row.order_webhook_secret) == NEW_SECRET


async def test_list_shows_all_of_them_without_secrets(operator: Operator, shop: Shop) -> None:
    mine = [row for row in (await operator("workspace", "list", "--json")).json if row["slug"] == shop.workspace.slug]
    assert mine == [
        {
            "id": str(shop.workspace.id),
            "slug": shop.workspace.slug,
            "name": "Shop",
            "currency": "ILS",
            "timezone": "Asia/Jerusalem",
            "dealer": "company",
            "vat_rate": "0.18",
            "commission_rate": "0.1",
            "order_webhook": shop.workspace.order_webhook_url,
        }
    ]
    assert any(
        shop.workspace.slug in line and "0.18" in line
        for line in (await operator("workspace", "list")).stdout.splitlines()
    )


async def test_update_changes_what_was_given_and_nothing_else(operator: Operator, shop: Shop) -> None:
    slug, before = shop.workspace.slug, await row_of(shop.service, shop.workspace.slug)
    await operator("workspace", "update", slug, "--vat-rate", "0.17", "--name", "Shop 2")
    row = await row_of(shop.service, slug)
    assert (row.vat_rate, row.name) == (Decimal("0.17"), "Shop 2")
    for column in Workspace.__table__.columns.keys():  # noqa: SIM118  (no mapping: iterating gives columns)
        if column not in ("vat_rate", "vat_rates", "name"):  # the days before keep their rate
            assert getattr(row, column) == getattr(before, column)
    assert (await audited(shop.service, row))[-1] == (
        "payment-cli",
        "workspace.updated",
        {"changed": ["name", "vat_rate"]},
    )


async def test_a_new_notification_secret_signs_from_now_on(operator: Operator, shop: Shop) -> None:
    operator.hidden.add(NEW_SECRET)
    await operator("workspace", "update", shop.workspace.slug, "--order-webhook-secret", NEW_SECRET)
    row = await row_of(shop.service, shop.workspace.slug)
    assert row.order_webhook_secret is not None
    assert shop.service.sealer.open(row.order_webhook_secret) == NEW_SECRET
    # the secret is there, so an address alone is enough
    url = "https://shop.example/hooks"
    await operator("workspace", "update", shop.workspace.slug, "--order-webhook-url", url)
    assert (await row_of(shop.service, shop.workspace.slug)).order_webhook_url == url


NOT_A_FRACTION = "a rate is a fraction from 0 to below 1 with at most six digits"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vat-rate", "18"], f"--vat-rate: {NOT_A_FRACTION}"),
        (["--vat-rate", "-0.1"], f"--vat-rate: {NOT_A_FRACTION}"),
        (["--vat-rate", "NaN"], f"--vat-rate: {NOT_A_FRACTION}"),
        (["--commission-rate", "Infinity"], f"--commission-rate: {NOT_A_FRACTION}"),
        (["--commission-rate", "0.0000001"], f"--commission-rate: {NOT_A_FRACTION}"),
        (["--vat-rate", "much"], '--vat-rate: a rate is a fraction, such as "0.18"'),
        (["--commission-minimum", "-1"], "--commission-minimum: a decimal amount in major units"),
        (["--timezone", "Mars/Base"], "--timezone: use an IANA time zone such as Asia/Jerusalem"),
        (["--country", "Israel"], "--country: an ISO 3166 code of two capital letters"),
        (["--legal-name", "x" * 201], "--legal-name: String should have at most 200 characters"),
        (["--dealer", "friendly"], "Invalid value for '--dealer'"),
        (["--language", "fr"], "Invalid value for '--language'"),
        (["--order-webhook-secret", "hush-hush"], "--order-webhook-secret: a Standard Webhooks secret is whsec_"),
        (["--order-webhook-url", "https://shop.example"], "order_webhook_secret: needed with order_webhook_url."),
        (
            ["--order-webhook-url", "ftp://shop.example", "--order-webhook-secret", NEW_SECRET],
            "order_webhook_url: use https.",
        ),
    ],
)
async def test_a_wrong_value_is_a_usage_error_and_creates_nothing(
    operator: Operator, slug: str, options: list[str], message: str
) -> None:
    operator.hidden |= {"hush-hush", NEW_SECRET}
    assert message in await operator.says(*creation(slug, *options), code=2)
    assert slug not in (await operator("workspace", "list")).stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({2: "No Slug"}, "SLUG: 3 to 63 small letters, digits and hyphens"),
        ({6: "ils"}, "--currency: an ISO 4217 code of three capital letters"),
        ({6: "XYZ"}, "--currency: 'XYZ' is not an ISO 4217 currency code"),
    ],
)
async def test_a_wrong_slug_or_currency(operator: Operator, slug: str, changes: dict[int, str], message: str) -> None:
    arguments = [changes.get(index, part) for index, part in enumerate(creation(slug))]
    assert message in await operator.says(*arguments, code=2)


async def test_spaces_around_a_slug_do_not_become_part_of_it(operator: Operator, service: Service, slug: str) -> None:
    await operator(*creation(f" {slug} "))
    assert (await row_of(service, slug)).slug == slug


async def test_notifications_in_clear_are_refused_in_production(operator: Operator, shop: Shop) -> None:
    update = ["workspace", "update", shop.workspace.slug, "--order-webhook-url", "http://shop.example/hooks"]
    assert await operator.says(*update, code=2, ENVIRONMENT="production") == "order_webhook_url: use https."
    row = await row_of(shop.service, shop.workspace.slug)
    assert row.order_webhook_url == shop.workspace.order_webhook_url
    await operator(*update)
    assert (await row_of(shop.service, shop.workspace.slug)).order_webhook_url == "http://shop.example/hooks"


async def test_the_command_line_and_the_api_refuse_with_the_same_words(
    operator: Operator, service: Service, slug: str
) -> None:
    said = await operator.says(*creation(slug, "--order-webhook-url", "https://shop.example"), code=2)
    answer = await service.http.post(
        f"{service.api_url}/api/v1/workspaces",
        json={"slug": slug, "name": "x", "currency": "ILS", "order_webhook_url": "https://shop.example"},
        headers={"authorization": f"Bearer {await admin_key(service)}"},
    )
    assert (answer.status_code, answer.json()["detail"]) == (422, said)


async def test_the_api_answers_a_rate_that_is_no_number(service: Service, slug: str) -> None:
    answer = await service.http.post(
        f"{service.api_url}/api/v1/workspaces",
        json={"slug": slug, "name": "x", "currency": "ILS", "vat_rate": "NaN"},
        headers={"authorization": f"Bearer {await admin_key(service)}"},
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


async def test_a_slug_is_taken_once(operator: Operator, shop: Shop) -> None:
    assert await operator.says(*creation(shop.workspace.slug)) == f"The slug {shop.workspace.slug} is taken."


async def test_wrong_use(operator: Operator, shop: Shop) -> None:
    assert await operator.says("workspace", "update", shop.workspace.slug, code=2) == "say what to change"
    message = await operator.says("workspace", "update", "nowhere", "--vat-rate", "0.1")
    assert "There is no workspace nowhere" in message
    assert shop.workspace.slug in message
    assert "Missing option '--currency'" in await operator.says("workspace", "create", "x", "--name", "y", code=2)


async def test_a_name_that_no_document_can_show_is_refused(operator: Operator, shop: Shop, slug: str) -> None:
    refusals = [
        await operator(*creation(slug, "--legal-name", "Clinic 🙂"), code=2),
        await operator("workspace", "update", shop.workspace.slug, "--legal-name-he", "🙂", code=2),
    ]
    assert [("--legal-name: " in one.stderr, "--legal-name-he: " in one.stderr) for one in refusals] == [
        (True, False),
        (False, True),
    ]


async def test_rates_of_vat_are_set_by_the_days_from_which_they_hold(operator: Operator, shop: Shop) -> None:
    slug = shop.workspace.slug
    shown = json.loads((await operator("workspace", "vat-rates", slug, "--json")).stdout)
    assert shown == [{"from": "1970-01-01", "rate": "0.18"}]
    await operator("workspace", "vat-rates", slug, "--set", "2025-01-01=0.18", "--set", "2015-10-01=0.17")
    row = await row_of(shop.service, slug)
    assert row.vat_rates == [{"from": "2015-10-01", "rate": "0.17"}, {"from": "2025-01-01", "rate": "0.18"}]
    assert row.vat_rate == Decimal("0.18")
    assert (await audited(shop.service, row))[-1][1] == "workspace.vat_rates_set"
    for wrong in ("0.18", "2025-01-01", "2025-13-01=0.18", "2025-01-01=18"):
        assert "--set" in (await operator("workspace", "vat-rates", slug, "--set", wrong, code=2)).stderr
