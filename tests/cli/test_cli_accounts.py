"""`account`: credentials go in and never come out, the provider is asked, keys are rotated."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select, text, update

from embedded.parts import free_port
from providers.registry import required_credentials
from storage import administration, attempts, workspaces
from storage.models import Attempt, AuditEntry, IdempotentAnswer, Payment, ProviderAccount, Workspace
from storage.sealing import Sealer, SealingError
from storage.session import Database
from tests.cli.running import Apart, Operator
from tests.support.service import CREDENTIALS_KEY, NOTICE_SECRET, Service, Shop, account_of, eventually

KEY, HOOK = "sk_test_command_line_1234", "whsec_command_line_5678"
NO_KEY = "no key in CREDENTIALS_KEYS opens this secret; was a key removed too early?"


def creation(slug: str, *credentials: str, name: str = "new") -> list[str]:
    given = [part for credential in credentials for part in ("--credential", credential)]
    return ["account", "create", "--workspace", slug, "--provider", "stripe", "--name", name, *given]


async def accounts(operator: Operator, slug: str | None = None) -> list[dict[str, Any]]:
    rows = (await operator("account", "list", "--json")).json
    if slug is None:
        return list(rows)
    known = {row["slug"]: row["id"] for row in (await operator("workspace", "list", "--json")).json}
    return [row for row in rows if row["workspace"] == known[slug]]


async def actions(service: Service, account_id: object) -> list[tuple[str, str, dict[str, Any]]]:
    query = select(AuditEntry.actor, AuditEntry.action, AuditEntry.details).where(
        AuditEntry.subject_id == str(account_id), AuditEntry.actor == "payment-cli"
    )
    async with service.database.transaction() as session:
        return [(actor, action, details) for actor, action, details in await session.execute(query)]


@pytest.mark.parametrize(
    ("credentials", "surroundings"),
    [
        ((f"secret_key={KEY}", f"webhook_secret={HOOK}"), {}),
        (("secret_key=-", "webhook_secret=-"), {"typed": f"{KEY}\n{HOOK}\n"}),
        (("secret_key=@SHOP_KEY", "webhook_secret=@SHOP_HOOK"), {"SHOP_KEY": f"{KEY}\n", "SHOP_HOOK": f" {HOOK} "}),
    ],
)
async def test_credentials_from_everywhere_are_sealed(
    operator: Operator, shop: Shop, credentials: tuple[str, ...], surroundings: dict[str, Any]
) -> None:
    operator.hidden |= {KEY, HOOK}
    slug, base = shop.workspace.slug, f"api_base={shop.service.sandbox_url}"
    shown = (await operator(*creation(slug, *credentials), "--option", base, **surroundings)).stdout
    (made,) = [row for row in await accounts(operator, slug) if row["name"] == "new"]
    assert f"https://pay.example/api/v1/webhooks/stripe/{made['id']}" in shown
    assert (made["provider"], made["key_ends_with"], made["enabled"]) == ("stripe", "…1234", True)
    assert made["options"] == {"api_base": shop.service.sandbox_url}
    row = await account_of(shop.service, UUID(made["id"]))
    assert shop.service.sealer.open_mapping(row.credentials) == {"secret_key": KEY, "webhook_secret": HOOK}
    assert await actions(shop.service, row.id) == [
        ("payment-cli", "provider_account.created", {"provider": "stripe", "name": "new"})
    ]
    assert "…1234" in (await operator("account", "list")).stdout


async def test_a_new_account_takes_payments(operator: Operator, service: Service) -> None:
    shop = await service.shop()
    await operator("account", "disable", shop.account.id)
    arguments = creation(shop.workspace.slug, f"secret_key={KEY}", f"webhook_secret={HOOK}")
    await operator(*arguments, "--option", f"api_base={service.sandbox_url}")
    (made,) = [row for row in await accounts(operator, shop.workspace.slug) if row["enabled"]]
    assert (await shop.read((await shop.pays())["id"]))["provider_account_id"] == made["id"]
    await shop.api.aclose()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([f"secret_key={KEY}"], "stripe needs: --credential webhook_secret=…"),
        ([], "stripe needs: --credential secret_key=… --credential webhook_secret=…"),
        ([KEY], "--credential takes name=value"),
        ([f"={KEY}"], "--credential takes name=value"),
        (["secret_key= "], "--credential takes name=value"),
        (["secret_key=@NOT_THERE"], "NOT_THERE is not set in the environment"),
    ],
)
async def test_credentials_in_a_wrong_form_are_refused_unseen(
    operator: Operator, shop: Shop, arguments: list[str], message: str
) -> None:
    operator.hidden.add(KEY)
    assert await operator.says(*creation(shop.workspace.slug, *arguments), code=2) == message
    assert len(await accounts(operator, shop.workspace.slug)) == 1


async def test_wrong_use(operator: Operator, shop: Shop) -> None:
    operator.hidden |= {KEY, HOOK}
    good = (f"secret_key={KEY}", f"webhook_secret={HOOK}")
    slug, unknown = shop.workspace.slug, uuid4()
    taken = await operator.says(*creation(slug, *good, name="test"))
    assert taken == f"{slug} has a stripe account named test; choose another --name."
    assert "no workspace nowhere" in await operator.says(*creation("nowhere", *good))
    assert "1 to 100 characters" in await operator.says(*creation(slug, *good, name="n" * 101), code=2)
    option = await operator.says(*creation(slug, *good), "--option", "api_base", code=2)
    assert option == "--option takes name=value"
    provider = ["account", "create", "--workspace", slug, "--provider", "nobody"]
    assert "'nobody' is not" in await operator.says(*provider, code=2)
    for command in (["check"], ["enable"], ["disable"], ["replace-credentials", "--credential", good[0]]):
        message = await operator.says("account", *command, unknown)
        assert message == f"There is no account {unknown}; see payment-cli account list."
        assert "is not an id" in await operator.says("account", *command, "stripe", code=2)


async def test_check_asks_the_provider_with_the_stored_credentials(operator: Operator, shop: Shop) -> None:
    operator.hidden.add(shop.provider_key)
    shown = (await operator("account", "check", shop.account.id)).stdout
    assert shown.startswith("stripe: ")
    assert "(test)" in shown


async def point_to(shop: Shop, api_base: str) -> None:
    change = update(ProviderAccount).where(ProviderAccount.id == shop.account.id)
    async with shop.service.database.transaction() as session:
        await session.execute(change.values(options={"api_base": api_base}))


async def test_check_says_what_is_wrong(operator: Operator, shop: Shop) -> None:
    await point_to(shop, f"http://127.0.0.1:{free_port()}")  # nothing listens there
    assert (await operator.says("account", "check", shop.account.id)).startswith("stripe did not answer: unreachable")
    wrong = Fernet.generate_key().decode()
    assert await operator.says("account", "check", shop.account.id, CREDENTIALS_KEYS=wrong) == NO_KEY


async def test_check_says_when_the_credentials_are_wrong(operator: Operator, shop: Shop) -> None:
    changed = ("account", "replace-credentials", shop.account.id, "--credential", "secret_key=sk_test_invalid")
    await operator(*changed)
    assert (await operator.says("account", "check", shop.account.id)).startswith("stripe refused: ")


async def test_the_provider_is_not_asked_inside_a_transaction(operator: Operator, shop: Shop) -> None:
    """While the provider is slow nothing in the database waits."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await go_on.wait()
        writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    async with server:
        await point_to(shop, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        checking = asyncio.create_task(operator.says("account", "check", shop.account.id))
        await asyncio.wait_for(asked.wait(), 10)
        async with shop.service.database.transaction() as session:
            waiting = await session.scalar(
                text("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE :mine"),
                {"mine": "SELECT%provider_accounts%"},
            )
        go_on.set()
        assert (await checking).startswith("stripe did not answer: ")
    assert waiting == 0


async def test_disabled_takes_no_new_payments_until_enabled(operator: Operator, shop: Shop) -> None:
    assert (await operator("account", "disable", shop.account.id)).stdout == "stripe account test: disabled\n"
    refused = await shop.api.post("/payments", json=shop.order())
    assert (refused.status_code, refused.json()["code"]) == (422, "no_provider_account")
    (row,) = await accounts(operator, shop.workspace.slug)
    assert row["enabled"] is False
    assert (await operator("account", "enable", shop.account.id)).stdout == "stripe account test: enabled\n"
    assert (await shop.pays())["status"] == "pending"
    assert [action for _, action, _ in await actions(shop.service, shop.account.id)] == [
        "provider_account.disabled",
        "provider_account.enabled",
    ]


async def test_replaced_credentials_work_at_once_and_the_rest_stays(operator: Operator, shop: Shop) -> None:
    operator.hidden |= {KEY, shop.hook_secret, shop.provider_key}
    shown = await operator("account", "replace-credentials", shop.account.id, "--credential", f"secret_key={KEY}")
    assert shown.stdout == "replaced: secret_key\n"
    row = await account_of(shop.service, shop.account.id)
    assert shop.service.sealer.open_mapping(row.credentials) == {
        "secret_key": KEY,
        "webhook_secret": shop.hook_secret,
    }
    assert row.updated_at > shop.account.updated_at  # running processes build their adapter anew
    (listed,) = await accounts(operator, shop.workspace.slug)
    assert listed["key_ends_with"] == "…1234"
    assert await actions(shop.service, shop.account.id) == [
        ("payment-cli", "provider_account.credentials_replaced", {"names": ["secret_key"]})
    ]
    await operator("account", "replace-credentials", shop.account.id, "--credential", f"webhook_secret={HOOK}")
    body = b'{"id": "evt_new_secret", "object": "event", "type": "ping", "data": {"object": {}}}'
    for secret, status in ((HOOK, 200), (shop.hook_secret, 400)):
        signed = await operator("sign", "stripe", "webhook", "--secret", secret, "--body", "-", typed=body)
        answer = await shop.service.http.post(
            shop.hook_url, content=body, headers={"stripe-signature": signed.stdout.strip()}
        )
        assert answer.status_code == status


async def test_a_new_credential_is_told_from_a_replaced_one(operator: Operator, shop: Shop) -> None:
    """Providers have optional ones; and a mistyped name must not look like success."""
    operator.hidden.add(KEY)
    replace = ["account", "replace-credentials", shop.account.id, "--credential"]
    done = await operator(*replace, f"secret_key={KEY}", "--credential", "hmac_key=other")
    assert done.stdout == "replaced: secret_key\nadded: hmac_key\n"
    row = await account_of(shop.service, shop.account.id)
    assert shop.service.sealer.open_mapping(row.credentials)["hmac_key"] == "other"
    assert await operator.says(*replace, "secret_key=", code=2) == "--credential takes name=value"
    assert (await account_of(shop.service, shop.account.id)).credentials == row.credentials


async def test_two_replacements_at_once_do_not_undo_each_other(shop: Shop) -> None:
    database, sealer = shop.service.database, shop.service.sealer
    async with database.transaction() as first, database.transaction() as second:
        rows = [await workspaces.account(session, shop.account.id) for session in (first, second)]
        for session, row, given in ((first, rows[0], {"secret_key": KEY}), (second, rows[1], {"webhook_secret": HOOK})):
            assert row is not None
            at = datetime.now(UTC)
            await administration.replace_credentials(session, sealer, row, given, at=at, actor="test")
            await session.commit()
    row = await account_of(shop.service, shop.account.id)
    assert sealer.open_mapping(row.credentials) == {"secret_key": KEY, "webhook_secret": HOOK}


class Secrets:
    """One of each secret that the database keeps, sealed under the key that the tests begin with."""

    client_secret = "pi_1_secret_abc"
    bank = "bank-7"
    process_token = "process-token-1"
    form = '{"action": "https://pay.example"}'
    answer = '{"key": "dp_live_shown_once"}'

    def __init__(self, apart: Apart, sandbox_url: str) -> None:
        self.database = apart.database
        self.sandbox_url = sandbox_url
        self.account_id, self.payment_id = uuid4(), uuid4()

    async def store(self) -> None:
        sealer = Sealer([CREDENTIALS_KEY])
        values = {"slug": "one", "name": "One", "currency": "ILS", "country": "IL", "timezone": "UTC"}
        async with self.database.transaction() as session:
            workspace = await administration.create_workspace(
                session,
                values | {"legal_name": "One", "order_webhook_secret": sealer.seal(NOTICE_SECRET)},
                actor="test",
            )
            account = await administration.create_account(
                session,
                sealer,
                workspace_id=workspace.id,
                provider="stripe",
                name="test",
                credentials={"secret_key": KEY, "webhook_secret": HOOK},
                options={"api_base": self.sandbox_url},
                receives_default_webhook=False,
                actor="test",
                hint_of=required_credentials("stripe")[0],
            )
            self.account_id = account.id
            session.add(
                Payment(
                    id=self.payment_id,
                    workspace_id=workspace.id,
                    provider_account_id=account.id,
                    provider="stripe",
                    order_id="o-1",
                    amount=1,
                    currency="ILS",
                    description="x",
                    client_secret=sealer.seal(self.client_secret),
                    method_fields=sealer.seal(self.bank),
                    expires_at=datetime.now(UTC) + timedelta(hours=1),
                )
            )
            await session.flush()
            way = {"provider": "stripe", "provider_account_id": account.id, "status": "pending"}
            way |= {"session_secret": sealer.seal(self.process_token), "form": sealer.seal(self.form)}
            await attempts.record(session, self.payment_id, 1, way | {"method_fields": sealer.seal(self.bank)})
            for key, status in (("done", 201), ("running", 0)):
                body = sealer.seal(self.answer) if status else b""
                session.add(IdempotentAnswer(scope="s", key=key, fingerprint=b"f", status_code=status, body=body))

    async def opened(self, key: str) -> list[str]:
        """What one key alone opens; raises SealingError when it opens not all."""
        open_ = Sealer([key]).open
        async with self.database.transaction() as session:
            sealed = [
                await session.scalar(select(ProviderAccount.credentials)),
                await session.scalar(select(Workspace.order_webhook_secret)),
                await session.scalar(select(Payment.client_secret)),
                await session.scalar(select(Payment.method_fields)),
                await session.scalar(select(Attempt.session_secret)),
                await session.scalar(select(Attempt.form)),
                await session.scalar(select(Attempt.method_fields)),
                await session.scalar(select(IdempotentAnswer.body).where(IdempotentAnswer.status_code != 0)),
            ]
        return [open_(one or b"") for one in sealed]


@pytest.fixture
async def kept(apart: Apart, sandbox_url: str) -> Secrets:
    secrets = Secrets(apart, sandbox_url)
    await secrets.store()
    return secrets


async def test_after_a_rotation_the_new_key_alone_opens_everything(apart: Apart, kept: Secrets) -> None:
    operator, new = apart.operator, Fernet.generate_key().decode()
    operator.hidden |= {KEY, HOOK, new, kept.client_secret}
    assert await operator.says("account", "check", kept.account_id, CREDENTIALS_KEYS=new) == NO_KEY
    before = await kept.opened(CREDENTIALS_KEY)
    shown = await operator("account", "rotate-keys", CREDENTIALS_KEYS=f"{new},{CREDENTIALS_KEY}")
    assert shown.stdout == "sealed the secrets of 1 accounts again\n"
    assert await kept.opened(new) == before
    async with apart.database.transaction() as session:
        query = select(AuditEntry.actor, AuditEntry.details).where(AuditEntry.action == "secrets.sealed_again")
        assert (await session.execute(query)).all() == [("payment-cli", {"provider_accounts": 1})]
    kept_by_payment = [kept.client_secret, kept.bank, kept.process_token, kept.form, kept.bank]
    assert before[1:] == [NOTICE_SECRET, *kept_by_payment, kept.answer]
    with pytest.raises(SealingError):
        await kept.opened(CREDENTIALS_KEY)
    assert "(test)" in (await operator("account", "check", kept.account_id, CREDENTIALS_KEYS=new)).stdout


async def test_a_rotation_that_cannot_open_a_secret_changes_nothing(apart: Apart, kept: Secrets) -> None:
    new, lost = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    async with apart.database.transaction() as session:
        await session.execute(update(Payment).values(client_secret=Sealer([lost]).seal("sealed under a lost key")))
    rotate = ["account", "rotate-keys"]
    assert await apart.operator.says(*rotate, CREDENTIALS_KEYS=f"{new},{CREDENTIALS_KEY}") == NO_KEY
    async with apart.database.transaction() as session:
        sealed = await session.scalar(select(ProviderAccount.credentials))
    assert Sealer([CREDENTIALS_KEY]).open_mapping(sealed or b"")["secret_key"] == KEY


async def blocked(database: Database) -> bool:
    """Whether a session waits for a row that another holds."""
    waits = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with database.transaction() as session:
        return bool(await session.scalar(waits))


async def test_a_rotation_does_not_put_back_a_secret_replaced_meanwhile(apart: Apart, kept: Secrets) -> None:
    new = Fernet.generate_key().decode()
    both = f"{new},{CREDENTIALS_KEY}"
    async with apart.database.transaction() as session:
        row = await workspaces.account(session, kept.account_id)
        assert row is not None
        given, at = {"secret_key": "sk_test_newer"}, datetime.now(UTC)
        sealer = Sealer(both.split(","))
        await administration.replace_credentials(session, sealer, row, given, at=at, actor="test")
        await session.flush()
        rotating = asyncio.create_task(apart.operator("account", "rotate-keys", CREDENTIALS_KEYS=both))
        await eventually(lambda: blocked(apart.database))
    await rotating
    assert "sk_test_newer" in (await kept.opened(new))[0]


async def test_one_account_receives_the_callbacks_without_a_name(apart: Apart, kept: Secrets) -> None:
    async def default() -> UUID | None:
        async with apart.database.transaction() as session:
            row = await workspaces.default_webhook_account(session, "stripe")
        return None if row is None else row.id

    assert await default() is None
    for name in ("first", "second"):
        good = creation("one", f"secret_key={KEY}", f"webhook_secret={HOOK}", name=name)
        await apart.operator(*good, "--default-webhook")
        (made,) = [row for row in await accounts(apart.operator) if row["name"] == name]
        assert await default() == UUID(made["id"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (None, "CREDENTIALS_KEYS is empty; generate a key with: payment-cli generate-key"),
        ("short", "CREDENTIALS_KEYS holds no 32 url-safe base64 bytes; make a key with: payment-cli generate-key"),
    ],
)
async def test_without_a_usable_key_nothing_is_stored(
    operator: Operator, shop: Shop, keys: str | None, message: str
) -> None:
    good = creation(shop.workspace.slug, f"secret_key={KEY}", f"webhook_secret={HOOK}")
    for command in (good, ["account", "rotate-keys"], ["account", "check", shop.account.id]):
        assert await operator.says(*command, CREDENTIALS_KEYS=keys) == message
    assert len(await accounts(operator, shop.workspace.slug)) == 1
