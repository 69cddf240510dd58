"""affiliates: referrers, blocklist, holding periods, reviews, payout batches

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0006"
down_revision = "0005"

RULES = {
    "holding_days_are_sensible": "commission_holding_days BETWEEN 0 AND 730",
    "payout_minimum_is_not_negative": "payout_minimum >= 0",
    "payout_approval_is_known": "payout_approval IN ('any', 'another_key')",
    "velocity_is_sensible": "velocity_limit >= 0 AND velocity_hours > 0",
}


def upgrade() -> None:
    op.create_table(
        "blocklist",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("value_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=True),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_blocklist_workspace_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blocklist")),
        sa.UniqueConstraint(
            "workspace_id", "kind", "value_hash", name=op.f("uq_blocklist_workspace_id_kind_value_hash")
        ),
    )
    op.create_index("ix_blocklist_workspace_created", "blocklist", ["workspace_id", "created_at"], unique=False)
    op.create_table(
        "payouts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="requested", nullable=False),
        sa.Column("cut_off", sa.DateTime(timezone=True), nullable=False),
        sa.Column("minimum", sa.Numeric(precision=19, scale=4), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("total", sa.Numeric(precision=19, scale=4), server_default="0", nullable=False),
        sa.Column("prepared_by", sa.String(length=100), nullable=False),
        sa.Column("decided_by", sa.String(length=100), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.String(length=300), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_payouts_workspace_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payouts")),
        sa.UniqueConstraint("workspace_id", "idempotency_key", name=op.f("uq_payouts_workspace_id_idempotency_key")),
    )
    op.create_index(
        "ix_payouts_unstarted",
        "payouts",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("status = 'requested'"),
    )
    op.create_index("ix_payouts_workspace_created", "payouts", ["workspace_id", "created_at", "status"], unique=False)
    op.create_index(
        "uq_payouts_one_open",
        "payouts",
        ["workspace_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('requested', 'prepared', 'approved')"),
    )
    op.create_table(
        "referrers",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="active", nullable=False),
        sa.Column("identity", sa.LargeBinary(), nullable=True),
        sa.Column("email_hint", sa.String(length=64), nullable=True),
        sa.Column("email_hash", sa.LargeBinary(), nullable=True),
        sa.Column("ip_hash", sa.LargeBinary(), nullable=True),
        sa.Column("ip_range_hash", sa.LargeBinary(), nullable=True),
        sa.Column("payout_details", sa.LargeBinary(), nullable=True),
        sa.Column("payout_details_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_referrers_workspace_id")),
        sa.PrimaryKeyConstraint("workspace_id", "id", name=op.f("pk_referrers")),
    )
    op.create_table(
        "payout_files",
        sa.Column("payout_id", sa.Uuid(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["payout_id"], ["payouts.id"], name=op.f("fk_payout_files_payout_id")),
        sa.PrimaryKeyConstraint("payout_id", name=op.f("pk_payout_files")),
    )
    op.create_table(
        "payout_lines",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("payout_id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("referrer_id", sa.String(length=128), nullable=False),
        sa.Column("gross", sa.Numeric(precision=19, scale=4), nullable=False),
        sa.Column("carried", sa.Numeric(precision=19, scale=4), nullable=False),
        sa.Column("amount", sa.Numeric(precision=19, scale=4), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="prepared", nullable=False),
        sa.Column("reference", sa.String(length=200), nullable=True),
        sa.Column("failure", sa.String(length=300), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_payout_lines_amount_is_positive")),
        sa.CheckConstraint(
            "carried <= 0 AND amount = gross + carried", name=op.f("ck_payout_lines_amount_is_gross_less_debt")
        ),
        sa.ForeignKeyConstraint(["payout_id"], ["payouts.id"], name=op.f("fk_payout_lines_payout_id")),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_payout_lines_workspace_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payout_lines")),
        sa.UniqueConstraint("payout_id", "referrer_id", name=op.f("uq_payout_lines_payout_id_referrer_id")),
    )
    op.create_index("ix_payout_lines_referrer", "payout_lines", ["workspace_id", "referrer_id"], unique=False)
    op.create_table(
        "payout_items",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("commission_id", sa.Uuid(), nullable=False),
        sa.Column("line_id", sa.Uuid(), nullable=True),
        sa.Column("amount", sa.Numeric(precision=19, scale=4), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="reserved", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["commission_id"], ["commissions.id"], name=op.f("fk_payout_items_commission_id")),
        sa.ForeignKeyConstraint(["line_id"], ["payout_lines.id"], name=op.f("fk_payout_items_line_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payout_items")),
    )
    op.create_index("ix_payout_items_line", "payout_items", ["line_id"], unique=False)
    op.create_index(
        "uq_payout_items_live",
        "payout_items",
        ["commission_id"],
        unique=True,
        postgresql_where=sa.text("status <> 'released'"),
    )
    op.add_column(
        "commissions",
        sa.Column(
            "vests_at", sa.DateTime(timezone=True), server_default=sa.text("now() + interval '30 days'"), nullable=False
        ),
    )
    op.add_column("commissions", sa.Column("review", sa.String(length=16), nullable=True))
    op.add_column(
        "commissions",
        sa.Column(
            "held_by", postgresql.ARRAY(sa.String(length=32)), server_default=sa.text("'{}'::varchar[]"), nullable=False
        ),
    )
    op.add_column("commissions", sa.Column("review_reason", sa.String(length=300), nullable=True))
    op.add_column("commissions", sa.Column("reviewed_by", sa.String(length=100), nullable=True))
    op.add_column("commissions", sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_commissions_recent", "commissions", ["workspace_id", "referrer_id", "created_at"], unique=False)
    op.create_index(
        "ix_commissions_review",
        "commissions",
        ["workspace_id", "created_at"],
        unique=False,
        postgresql_where=sa.text("review = 'pending'"),
    )
    op.create_index(
        "ix_commissions_vesting",
        "commissions",
        ["workspace_id", "vests_at"],
        unique=False,
        postgresql_where=sa.text("status = 'accrued'"),
    )
    op.alter_column("outbox", "payment_id", existing_type=sa.UUID(), nullable=True)
    op.add_column("payments", sa.Column("card_fingerprint", sa.LargeBinary(), nullable=True))
    op.add_column("payments", sa.Column("payer_fingerprint", sa.LargeBinary(), nullable=True))
    op.create_index(
        "ix_payments_customer",
        "payments",
        ["workspace_id", "customer_id"],
        unique=False,
        postgresql_where=sa.text("customer_id IS NOT NULL"),
    )
    op.create_index(
        "ix_payments_payer",
        "payments",
        ["workspace_id", "payer_fingerprint"],
        unique=False,
        postgresql_where=sa.text("payer_fingerprint IS NOT NULL"),
    )
    op.add_column("workspaces", sa.Column("commission_holding_days", sa.Integer(), server_default="30", nullable=False))
    op.add_column(
        "workspaces", sa.Column("payout_minimum", sa.Numeric(precision=19, scale=4), server_default="0", nullable=False)
    )
    op.add_column(
        "workspaces", sa.Column("payout_approval", sa.String(length=16), server_default="any", nullable=False)
    )
    op.add_column("workspaces", sa.Column("velocity_limit", sa.Integer(), server_default="0", nullable=False))
    op.add_column("workspaces", sa.Column("velocity_hours", sa.Integer(), server_default="24", nullable=False))
    op.add_column("workspaces", sa.Column("fingerprint_key", sa.LargeBinary(), nullable=True))
    for name, rule in RULES.items():
        op.create_check_constraint(op.f(f"ck_workspaces_{name}"), "workspaces", rule)
    op.execute("UPDATE commissions SET vests_at = created_at + interval '30 days'")
    op.execute(
        "INSERT INTO payout_items (commission_id, amount, status, created_at)"
        " SELECT id, amount - clawed_back, 'paid', coalesce(paid_at, now()) FROM commissions WHERE status = 'paid'"
    )


def downgrade() -> None:
    for name in RULES:
        op.drop_constraint(op.f(f"ck_workspaces_{name}"), "workspaces", type_="check")
    op.execute("DELETE FROM outbox WHERE payment_id IS NULL")
    op.drop_column("workspaces", "fingerprint_key")
    op.drop_column("workspaces", "velocity_hours")
    op.drop_column("workspaces", "velocity_limit")
    op.drop_column("workspaces", "payout_approval")
    op.drop_column("workspaces", "payout_minimum")
    op.drop_column("workspaces", "commission_holding_days")
    op.drop_index("ix_payments_payer", table_name="payments", postgresql_where=sa.text("payer_fingerprint IS NOT NULL"))
    op.drop_index("ix_payments_customer", table_name="payments", postgresql_where=sa.text("customer_id IS NOT NULL"))
    op.drop_column("payments", "payer_fingerprint")
    op.drop_column("payments", "card_fingerprint")
    op.alter_column("outbox", "payment_id", existing_type=sa.UUID(), nullable=False)
    op.drop_index("ix_commissions_vesting", table_name="commissions", postgresql_where=sa.text("status = 'accrued'"))
    op.drop_index("ix_commissions_review", table_name="commissions", postgresql_where=sa.text("review = 'pending'"))
    op.drop_index("ix_commissions_recent", table_name="commissions")
    op.drop_column("commissions", "reviewed_at")
    op.drop_column("commissions", "reviewed_by")
    op.drop_column("commissions", "review_reason")
    op.drop_column("commissions", "held_by")
    op.drop_column("commissions", "review")
    op.drop_column("commissions", "vests_at")
    op.drop_index("uq_payout_items_live", table_name="payout_items", postgresql_where=sa.text("status <> 'released'"))
    op.drop_index("ix_payout_items_line", table_name="payout_items")
    op.drop_table("payout_items")
    op.drop_index("ix_payout_lines_referrer", table_name="payout_lines")
    op.drop_table("payout_lines")
    op.drop_table("payout_files")
    op.drop_table("referrers")
    op.drop_index(
        "uq_payouts_one_open",
        table_name="payouts",
        postgresql_where=sa.text("status IN ('requested', 'prepared', 'approved')"),
    )
    op.drop_index("ix_payouts_workspace_created", table_name="payouts")
    op.drop_index("ix_payouts_unstarted", table_name="payouts", postgresql_where=sa.text("status = 'requested'"))
    op.drop_table("payouts")
    op.drop_index("ix_blocklist_workspace_created", table_name="blocklist")
    op.drop_table("blocklist")
