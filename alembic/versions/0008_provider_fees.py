"""provider fees: agreed by account, noted at the capture, given back in part with refunds

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    amount, no = sa.Numeric(precision=19, scale=4), sa.text("false")
    op.add_column("payments", sa.Column("fee", amount, server_default="0", nullable=False))
    op.add_column("payments", sa.Column("fee_returned", sa.Boolean(), server_default=no, nullable=False))
    op.create_check_constraint("fee_is_a_part", "payments", "fee >= 0 AND fee <= amount")
    rate = sa.Numeric(precision=7, scale=6)
    op.add_column("provider_accounts", sa.Column("fee_rate", rate, server_default="0", nullable=False))
    op.add_column("provider_accounts", sa.Column("fee_fixed", amount, server_default="0", nullable=False))
    op.add_column("provider_accounts", sa.Column("fee_returned", sa.Boolean(), server_default=no, nullable=False))
    op.create_check_constraint(
        "fee_is_a_part", "provider_accounts", "fee_rate >= 0 AND fee_rate < 1 AND fee_fixed >= 0"
    )
    op.add_column("refunds", sa.Column("fee", amount, nullable=True))


def downgrade() -> None:
    op.drop_column("refunds", "fee")
    for column in ("fee_returned", "fee_fixed", "fee_rate"):
        op.drop_column("provider_accounts", column)
    for column in ("fee_returned", "fee"):
        op.drop_column("payments", column)
