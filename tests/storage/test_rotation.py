"""Sealing again: every secret there is, page by page, and nothing when one of them cannot be opened."""

from __future__ import annotations

from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import LargeBinary, false, select, update

from storage import rotation
from storage.models import Base, IdempotentAnswer, ProviderAccount
from storage.sealing import Sealer, SealingError
from tests.support.service import CREDENTIALS_KEY, Service

PLAIN = {"receipt_pdfs.pdf", "webhook_events.body"}
"""Bytes that are neither secret nor a hash: documents, and callbacks without their session's secret."""


def test_every_column_of_bytes_is_sealed_again_or_known_to_be_no_secret() -> None:
    held = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    hashes = {name for name in held if name.endswith(("hash", "fingerprint", "sha256"))}
    sealed = {f"{table.model.__tablename__}.{name}" for table in rotation.SEALED for name in table.columns}
    assert held - PLAIN - hashes == sealed


async def test_pages_are_sealed_again_and_a_lost_key_stops_it_before_it_begins(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven rows, three a page. Their key has two columns, and one row holds no answer yet."""
    scope, old, new = f"rotation-{uuid4()}", Sealer([CREDENTIALS_KEY]), Fernet.generate_key().decode()
    mine = IdempotentAnswer.scope == scope
    monkeypatch.setattr(rotation, "PAGE", 3)
    answered = rotation.Sealed(IdempotentAnswer, ("body",), mine & (IdempotentAnswer.status_code != 0))
    monkeypatch.setattr(rotation, "SEALED", (rotation.Sealed(ProviderAccount, ("credentials",), false()), answered))
    async with service.database.transaction() as session:
        for number in range(7):
            body = old.seal(f"answer {number}") if number else b""
            answer = IdempotentAnswer(
                scope=scope, key=str(number), fingerprint=b"x", status_code=201 if number else 0, body=body
            )
            session.add(answer)

    async def bodies() -> list[bytes]:
        async with service.database.transaction() as session:
            return list(await session.scalars(select(IdempotentAnswer.body).where(mine).order_by(IdempotentAnswer.key)))

    before = await bodies()
    lost = Sealer([Fernet.generate_key().decode()]).seal("under a key that is gone")
    last = mine & (IdempotentAnswer.key == "6")
    async with service.database.transaction() as session:
        await session.execute(update(IdempotentAnswer).where(last).values(body=lost))
    with pytest.raises(SealingError):
        await rotation.rotate(service.database, Sealer([new, CREDENTIALS_KEY]), actor="test")
    assert await bodies() == [*before[:6], lost]
    async with service.database.transaction() as session:
        await session.execute(update(IdempotentAnswer).where(last).values(body=before[6]))
    assert await rotation.rotate(service.database, Sealer([new, CREDENTIALS_KEY]), actor="test") == 0
    after = await bodies()
    assert after[0] == b""
    assert [Sealer([new]).open(body) for body in after[1:]] == [f"answer {number}" for number in range(1, 7)]
