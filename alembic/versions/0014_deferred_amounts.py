"""amounts below a provider's step

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("subscriptions", sa.Column("deferred", sa.Numeric(19, 4), server_default="0", nullable=False))
    op.create_check_constraint("deferred_is_not_negative", "subscriptions", "deferred >= 0")


def downgrade() -> None:
    op.drop_constraint("deferred_is_not_negative", "subscriptions", type_="check")
    op.drop_column("subscriptions", "deferred")
