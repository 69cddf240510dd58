"""which card an invoice is charged to next

Revision ID: 0017
Revises: 0016
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0017"
down_revision = "0016"

FOR_A_SUBSCRIPTION = op.f("fk_method_setups_subscription_id")
OF_THE_CHARGE = ("method_token_hash", "method_fingerprint")


def upgrade() -> None:
    for name in OF_THE_CHARGE:
        op.add_column("attempts", sa.Column(name, sa.LargeBinary(), nullable=True))
    op.add_column("attempts", sa.Column("method_expiry", sa.String(7), nullable=True))
    op.add_column("invoices", sa.Column("preferred_methods", JSONB(none_as_null=True), nullable=True))
    op.add_column("method_setups", sa.Column("subscription_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(FOR_A_SUBSCRIPTION, "method_setups", "subscriptions", ["subscription_id"], ["id"])


def downgrade() -> None:
    op.drop_constraint(FOR_A_SUBSCRIPTION, "method_setups", type_="foreignkey")
    op.drop_column("method_setups", "subscription_id")
    op.drop_column("invoices", "preferred_methods")
    for name in ("method_expiry", *OF_THE_CHARGE):
        op.drop_column("attempts", name)
