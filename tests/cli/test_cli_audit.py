"""`audit verify`: an edit is found and named, in its workspace."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text

from storage import administration
from storage.models import Workspace
from tests.cli.running import Apart


@pytest.fixture
async def two_logs(apart: Apart) -> Apart:
    """Two workspaces with three entries each."""
    for slug in ("one", "two"):
        values = {"slug": slug, "name": slug, "currency": "ILS", "country": "IL", "timezone": "UTC", "legal_name": slug}
        async with apart.database.transaction() as session:
            workspace = await administration.create_workspace(session, values, actor="test")
        for name in ("a", "b"):
            async with apart.database.transaction() as session:
                await administration.update_workspace(session, workspace, {"name": name}, actor="test")
    return apart


async def test_an_untouched_log_verifies(two_logs: Apart) -> None:
    assert (await two_logs.operator("audit", "verify")).stdout == "6 entries, every chain holds\n"


async def test_an_empty_log_verifies(apart: Apart) -> None:
    assert (await apart.operator("audit", "verify")).stdout == "0 entries, every chain holds\n"


@pytest.mark.parametrize(
    ("edit", "seq", "fault"),
    [
        (
            "UPDATE audit_log SET actor = 'nobody' WHERE seq = 2 AND workspace_id = :two",
            2,
            "was changed after it was written",
        ),
        ("DELETE FROM audit_log WHERE seq = 1 AND workspace_id = :two", 2, "an entry is missing before this one"),
        (
            "DELETE FROM audit_log WHERE seq = 3 AND workspace_id = :two",
            3,
            "the end of the log is missing or was changed",
        ),
    ],
)
async def test_an_edit_is_named_and_the_exit_code_is_1(two_logs: Apart, edit: str, seq: int, fault: str) -> None:
    async with two_logs.database.transaction() as session:
        two = await session.scalar(select(Workspace.id).where(Workspace.slug == "two"))
        await session.execute(text("SET LOCAL session_replication_role = replica"))  # what an intruder would do
        await session.execute(text(edit), {"two": two})
    done = await two_logs.operator("audit", "verify", code=1)
    assert done.stdout == ""
    assert done.error.splitlines() == ["The audit log was changed:", f"workspace {two}, entry {seq}: {fault}"]
