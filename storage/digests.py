"""Keyed hashes: values that tell two things apart and give nothing away, by a key of the workspace's own."""

from __future__ import annotations

import hmac
import secrets
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from storage.models import Workspace
from storage.sealing import Sealer


async def keyed_hash(session: AsyncSession, sealer: Sealer, workspace_id: UUID, text: str) -> bytes:
    """HMAC-SHA256 of a text under the workspace's key, which is made when it is first needed and never changes.

    The same text has the same hash in one workspace and another one in the next. Raises SealingError.
    """
    sealed = await session.scalar(select(Workspace.digest_key).where(Workspace.id == workspace_id))
    if sealed is None:  # whoever comes second finds the first one's key
        fresh = sealer.seal(secrets.token_urlsafe(32))
        await session.execute(
            update(Workspace)
            .where(Workspace.id == workspace_id, Workspace.digest_key.is_(None))
            .values(digest_key=fresh)
            .execution_options(synchronize_session=False)
        )
        sealed = await session.scalar(select(Workspace.digest_key).where(Workspace.id == workspace_id))
    if sealed is None:
        raise LookupError("no such workspace")
    return hmac.digest(sealer.open(sealed).encode(), text.encode(), "sha256")
