"""what is due is looked for workspace by workspace

Revision ID: 0015
Revises: 0014
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0015"
down_revision = "0014"

WAITING = sa.text("status = 'waiting'")


def upgrade() -> None:
    op.drop_index("ix_outbox_due", table_name="outbox", postgresql_where=WAITING)
    op.create_index("ix_outbox_due", "outbox", ["workspace_id", "next_attempt_at"], postgresql_where=WAITING)


def downgrade() -> None:
    op.drop_index("ix_outbox_due", table_name="outbox", postgresql_where=WAITING)
    op.create_index("ix_outbox_due", "outbox", ["next_attempt_at"], postgresql_where=WAITING)
