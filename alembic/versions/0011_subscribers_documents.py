"""subscribers' documents

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("subscriptions", sa.Column("customer_document_type", sa.String(length=8), nullable=True))
    op.add_column("subscriptions", sa.Column("customer_document", sa.String(length=32), nullable=True))


def downgrade() -> None:
    op.drop_column("subscriptions", "customer_document")
    op.drop_column("subscriptions", "customer_document_type")
