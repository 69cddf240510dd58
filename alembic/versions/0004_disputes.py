"""disputes

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"

RULE = "ck_payments_refunds_never_exceed_the_capture"
BEFORE = "refunded >= 0 AND refund_reserved >= 0 AND refunded + refund_reserved <= amount"
AFTER = (
    "refunded >= 0 AND refund_reserved >= 0 AND dispute_held >= dispute_lost AND dispute_lost >= 0"
    " AND refunded + refund_reserved + dispute_held <= amount"
)


def upgrade() -> None:
    op.create_table(
        "disputes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("provider_dispute_id", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("amount", sa.Numeric(precision=19, scale=4), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("held", sa.Numeric(precision=19, scale=4), server_default="0", nullable=False),
        sa.Column("reason", sa.String(length=100), nullable=True),
        sa.Column("evidence_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_disputes_amount_is_positive")),
        sa.CheckConstraint("held >= 0", name=op.f("ck_disputes_held_is_not_negative")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_disputes_payment_id")),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_disputes_workspace_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_disputes")),
        sa.UniqueConstraint("provider", "provider_dispute_id", name=op.f("uq_disputes_provider_provider_dispute_id")),
    )
    op.create_index("ix_disputes_payment", "disputes", ["payment_id"], unique=False)
    op.create_index("ix_disputes_workspace_created", "disputes", ["workspace_id", "created_at", "status"], unique=False)
    op.add_column(
        "payments", sa.Column("dispute_held", sa.Numeric(precision=19, scale=4), server_default="0", nullable=False)
    )
    op.add_column(
        "payments", sa.Column("dispute_lost", sa.Numeric(precision=19, scale=4), server_default="0", nullable=False)
    )
    op.drop_constraint(op.f(RULE), "payments", type_="check")
    op.create_check_constraint(op.f(RULE), "payments", AFTER)


def downgrade() -> None:
    op.drop_constraint(op.f(RULE), "payments", type_="check")
    op.create_check_constraint(op.f(RULE), "payments", BEFORE)
    op.drop_column("payments", "dispute_lost")
    op.drop_column("payments", "dispute_held")
    op.drop_index("ix_disputes_workspace_created", table_name="disputes")
    op.drop_index("ix_disputes_payment", table_name="disputes")
    op.drop_table("disputes")
