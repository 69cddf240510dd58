"""the day of the month and the time of day that were agreed are kept beside the anchor

Revision ID: 0018
Revises: 0017
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("subscriptions", sa.Column("anchor_wall", sa.DateTime(timezone=False), nullable=True))
    op.add_column("subscriptions", sa.Column("anchor_day", sa.SmallInteger(), nullable=True))
    op.create_check_constraint("anchor_day_is_of_a_month", "subscriptions", "anchor_day BETWEEN 1 AND 31")


def downgrade() -> None:
    op.drop_constraint("anchor_day_is_of_a_month", "subscriptions", type_="check")
    op.drop_column("subscriptions", "anchor_day")
    op.drop_column("subscriptions", "anchor_wall")
