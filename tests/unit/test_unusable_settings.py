"""What can never work is refused at the start, in one line without secrets."""

from __future__ import annotations

import pytest

import wiring
from settings import Settings, async_url
from storage.session import Database
from tests.support.service import CREDENTIALS_KEY

GOOD = {"database_url": async_url("postgresql://p:hush@127.0.0.1:1/x"), "credentials_keys": CREDENTIALS_KEY}


def test_what_may_be_away_is_not_asked() -> None:
    away = {"redis_url": "redis://127.0.0.1:1/0", "temporal_address": "127.0.0.1:1"}
    wiring.require_usable(Settings.model_validate(GOOD | away))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"credentials_keys": ""}, "payment-cli generate-key"),
        ({"credentials_keys": "hush"}, "payment-cli generate-key"),
        ({"temporal_codec_keys": "k1:hush"}, "payment-cli generate-codec-key"),
        ({"temporal_tls_cert_path": "/nonexistent/client.pem"}, "/nonexistent/client.pem"),
        ({"database_url": "hush nonsense"}, "postgresql://user:password@host/name"),
        ({"database_url": "oracle+hush://p:hush@h/x"}, "postgresql://user:password@host/name"),
        ({"database_url": GOOD["database_url"] + "?keepalives=1"}, "no parameter keepalives"),
        ({"database_url": GOOD["database_url"] + "?ssl=verify-full&sslrootcert=/ca.pem"}, "as PGSSLROOTCERT"),
        ({"temporal_tls_cert_path": __file__}, "TEMPORAL_TLS_KEY_PATH"),
        ({"redis_url": "hush"}, "redis://"),
    ],
)
def test_a_setting_that_cannot_work_ends_the_start_in_one_line(wrong: dict[str, str], says: str) -> None:
    with pytest.raises(SystemExit) as refused:
        wiring.require_usable(Settings.model_validate(GOOD | wrong))
    line = str(refused.value.code)
    assert says in line
    assert "\n" not in line
    assert "hush" not in line


@pytest.mark.parametrize("prefix", ["postgres", "postgresql"])
def test_an_address_as_hosts_of_postgresql_hand_it_out_is_understood(prefix: str) -> None:
    given = f"{prefix}://p:hush@127.0.0.1:1/x?sslmode=require&channel_binding=require&connect_timeout=10"
    settings = Settings.model_validate(GOOD | {"database_url": async_url(given)})
    wiring.require_usable(settings)
    assert settings.database_url == "postgresql+asyncpg://p:hush@127.0.0.1:1/x?ssl=require"


async def test_what_is_left_of_it_the_driver_takes() -> None:
    database = Database(async_url("postgresql://p@127.0.0.1:1/x?sslmode=prefer&application_name=a"))
    with pytest.raises(ConnectionError):
        async with database.transaction() as session:
            await session.connection()
