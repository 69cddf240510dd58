"""refunds are matched by the provider's ids, of which one may have several

Revision ID: 0019
Revises: 0018
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from alembic import op

revision = "0019"
down_revision = "0018"

UNFOLLOWED = sa.text("status = 'pending' AND origin = 'provider' AND asked_at IS NULL")


def _names(column: str, length: int) -> sa.Column[list[str]]:
    return sa.Column(column, ARRAY(sa.String(length)), server_default=sa.text("'{}'"), nullable=False)


def upgrade() -> None:
    for table in ("refunds", "surplus_captures"):
        op.add_column(table, _names("further_provider_refund_ids", 255))
    op.create_index("ix_refunds_unfollowed", "refunds", ["created_at"], postgresql_where=UNFOLLOWED)


def downgrade() -> None:
    op.drop_index("ix_refunds_unfollowed", table_name="refunds", postgresql_where=UNFOLLOWED)
    for table in ("refunds", "surplus_captures"):
        op.drop_column(table, "further_provider_refund_ids")
