"""The key that a workspace compares people by without keeping what they are recognised by."""

from __future__ import annotations

import base64
import secrets
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from storage.models import Workspace
from storage.sealing import Sealer

KEY_BYTES = 32


def new_key(sealer: Sealer) -> bytes:
    """A fresh key, sealed: it stays the same while the keys that seal it are rotated."""
    return sealer.seal(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())


async def ensure_key(session: AsyncSession, sealer: Sealer, workspace_id: UUID) -> None:
    """Give a workspace its key, unless it has one. Meant for a short transaction of its own."""
    await session.execute(
        update(Workspace)
        .where(Workspace.id == workspace_id, Workspace.fingerprint_key.is_(None))
        .values(fingerprint_key=new_key(sealer))
        .execution_options(synchronize_session=False)
    )


def key_of(sealer: Sealer, workspace: Workspace) -> bytes | None:
    """The workspace's key; None when it has none yet. Raises SealingError when no key of ours opens it."""
    sealed = workspace.fingerprint_key
    return None if sealed is None else base64.b64decode(sealer.open(sealed))


async def open_key(session: AsyncSession, sealer: Sealer, workspace_id: UUID) -> bytes:
    """The workspace's key, made where there is none. Raises SealingError."""
    await ensure_key(session, sealer, workspace_id)
    sealed = (await session.execute(select(Workspace.fingerprint_key).where(Workspace.id == workspace_id))).scalar_one()
    assert sealed is not None  # noqa: S101  (written above)
    return base64.b64decode(sealer.open(sealed))
