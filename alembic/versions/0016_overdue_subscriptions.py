"""subscriptions whose workflow is overdue are found

Revision ID: 0016
Revises: 0015
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0016"
down_revision = "0015"

KNOWN = sa.text("next_action_at IS NOT NULL")


def upgrade() -> None:
    op.create_index("ix_subscriptions_due", "subscriptions", ["next_action_at"], postgresql_where=KNOWN)


def downgrade() -> None:
    op.drop_index("ix_subscriptions_due", table_name="subscriptions", postgresql_where=KNOWN)
