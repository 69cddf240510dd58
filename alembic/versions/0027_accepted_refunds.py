"""a refund of surplus that the provider has accepted is known before it has an id there

Revision ID: 0027
Revises: 0026
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.add_column("surplus_captures", sa.Column("accepted_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("surplus_captures", "accepted_at")
