"""surplus: refunds that are started again, and those that nobody has begun

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"

NOT_TAKEN_ON = sa.text("status = 'refunding' AND provider_refund_id IS NULL")


def upgrade() -> None:
    op.add_column(
        "surplus_captures", sa.Column("refund_number", sa.Integer(), server_default=sa.text("1"), nullable=False)
    )
    op.create_index(
        "ix_surplus_captures_unstarted",
        "surplus_captures",
        ["updated_at"],
        unique=False,
        postgresql_where=NOT_TAKEN_ON,
    )


def downgrade() -> None:
    op.drop_index("ix_surplus_captures_unstarted", table_name="surplus_captures", postgresql_where=NOT_TAKEN_ON)
    op.drop_column("surplus_captures", "refund_number")
