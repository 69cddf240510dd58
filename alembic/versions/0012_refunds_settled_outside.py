"""refunds settled outside the provider

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("refunds", sa.Column("outside_reference", sa.String(length=200), nullable=True))
    op.create_check_constraint(
        "settled_outside_has_reference", "refunds", "status <> 'settled_outside' OR outside_reference IS NOT NULL"
    )


def downgrade() -> None:
    op.drop_constraint("settled_outside_has_reference", "refunds", type_="check")
    op.drop_column("refunds", "outside_reference")
