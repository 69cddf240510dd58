"""what providers warn of and pay out: risk alerts with a policy, and payouts for reconciliation

Revision ID: 0026
Revises: 0025
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0026"
down_revision = "0025"

NOW = sa.text("now()")


def upgrade() -> None:
    op.add_column("workspaces", sa.Column("fraud_warning_action", sa.String(16), server_default="tell", nullable=False))
    op.create_check_constraint(
        "fraud_warning_action_is_known", "workspaces", "fraud_warning_action IN ('tell', 'refund')"
    )
    op.create_table(
        "risk_alerts",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("workspace_id", sa.Uuid(), sa.ForeignKey("workspaces.id"), nullable=False),
        sa.Column("payment_id", sa.Uuid(), sa.ForeignKey("payments.id"), nullable=False),
        sa.Column("provider", sa.String(32), nullable=False),
        sa.Column("provider_alert_id", sa.String(255), nullable=False),
        sa.Column("transaction_id", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("reason", sa.String(100), nullable=True),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("closed_reason", sa.String(100), nullable=True),
        sa.Column("actionable", sa.Boolean(), nullable=True),
        sa.Column("decision", sa.String(32), nullable=False),
        sa.Column("refund_id", sa.Uuid(), sa.ForeignKey("refunds.id"), nullable=True),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.CheckConstraint("(decision = 'refund_requested') = (refund_id IS NOT NULL)", name="a_refund_was_decided"),
        sa.UniqueConstraint("provider", "provider_alert_id"),
    )
    op.create_index("ix_risk_alerts_payment", "risk_alerts", ["payment_id"])
    op.create_index("ix_risk_alerts_workspace_created", "risk_alerts", ["workspace_id", "created_at"])
    op.create_table(
        "provider_payouts",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("workspace_id", sa.Uuid(), sa.ForeignKey("workspaces.id"), nullable=False),
        sa.Column("provider_account_id", sa.Uuid(), sa.ForeignKey("provider_accounts.id"), nullable=False),
        sa.Column("provider_payout_id", sa.String(255), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("arrival_date", sa.Date(), nullable=True),
        sa.Column("failure_code", sa.String(100), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.UniqueConstraint("provider_account_id", "provider_payout_id"),
    )
    op.create_index("ix_provider_payouts_account_created", "provider_payouts", ["provider_account_id", "created_at"])


def downgrade() -> None:
    op.drop_table("provider_payouts")
    op.drop_table("risk_alerts")
    op.drop_constraint("fraud_warning_action_is_known", "workspaces", type_="check")
    op.drop_column("workspaces", "fraud_warning_action")
