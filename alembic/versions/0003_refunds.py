"""refunds

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"

CHECKS = (
    (
        "payments",
        "ck_payments_refunds_never_exceed_the_capture",
        "refunded >= 0 AND refund_reserved >= 0 AND refunded + refund_reserved <= amount",
    ),
    ("commissions", "ck_commissions_clawed_back_is_a_part", "clawed_back >= 0 AND clawed_back <= amount"),
    (
        "receipts",
        "ck_receipts_credit_notes_are_of_refunds",
        "(kind = 'credit_note') = (refund_id IS NOT NULL)",
    ),
)


def upgrade() -> None:
    op.create_table(
        "refunds",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("amount", sa.Numeric(precision=19, scale=4), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="requested", nullable=False),
        sa.Column("origin", sa.String(length=16), server_default="merchant", nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=True),
        sa.Column("requested_by", sa.String(length=100), nullable=False),
        sa.Column("provider_refund_id", sa.String(length=255), nullable=True),
        sa.Column("failure_code", sa.String(length=100), nullable=True),
        sa.Column("vat", sa.Numeric(precision=19, scale=4), nullable=True),
        sa.Column("commission", sa.Numeric(precision=19, scale=4), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_refunds_amount_is_positive")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_refunds_payment_id")),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_refunds_workspace_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refunds")),
        sa.UniqueConstraint("provider", "provider_refund_id", name=op.f("uq_refunds_provider_provider_refund_id")),
        sa.UniqueConstraint("workspace_id", "idempotency_key", name=op.f("uq_refunds_workspace_id_idempotency_key")),
    )
    op.create_index("ix_refunds_payment", "refunds", ["payment_id"], unique=False)
    op.create_index(
        "ix_refunds_unstarted",
        "refunds",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("status = 'requested'"),
    )
    op.create_index("ix_refunds_workspace_created", "refunds", ["workspace_id", "created_at", "status"], unique=False)
    op.add_column(
        "commissions", sa.Column("clawed_back", sa.Numeric(precision=19, scale=4), server_default="0", nullable=False)
    )
    op.add_column(
        "payments", sa.Column("refunded", sa.Numeric(precision=19, scale=4), server_default="0", nullable=False)
    )
    op.add_column(
        "payments", sa.Column("refund_reserved", sa.Numeric(precision=19, scale=4), server_default="0", nullable=False)
    )
    op.add_column("receipts", sa.Column("refund_id", sa.Uuid(), nullable=True))
    op.drop_constraint(op.f("uq_receipts_payment_id_kind"), "receipts", type_="unique")
    op.create_unique_constraint(
        op.f("uq_receipts_payment_id_kind_refund_id"),
        "receipts",
        ["payment_id", "kind", "refund_id"],
        postgresql_nulls_not_distinct=True,
    )
    op.create_foreign_key(op.f("fk_receipts_refund_id"), "receipts", "refunds", ["refund_id"], ["id"])
    for table, name, rule in CHECKS:
        op.create_check_constraint(op.f(name), table, rule)


def downgrade() -> None:
    for table, name, _ in CHECKS:
        op.drop_constraint(op.f(name), table, type_="check")
    op.execute("DELETE FROM receipt_pdfs WHERE receipt_id IN (SELECT id FROM receipts WHERE refund_id IS NOT NULL)")
    op.execute("DELETE FROM receipts WHERE refund_id IS NOT NULL")
    op.drop_constraint(op.f("fk_receipts_refund_id"), "receipts", type_="foreignkey")
    op.drop_constraint(op.f("uq_receipts_payment_id_kind_refund_id"), "receipts", type_="unique")
    op.create_unique_constraint(op.f("uq_receipts_payment_id_kind"), "receipts", ["payment_id", "kind"])
    op.drop_column("receipts", "refund_id")
    op.drop_column("payments", "refund_reserved")
    op.drop_column("payments", "refunded")
    op.drop_column("commissions", "clawed_back")
    op.drop_index("ix_refunds_workspace_created", table_name="refunds")
    op.drop_index("ix_refunds_unstarted", table_name="refunds", postgresql_where=sa.text("status = 'requested'"))
    op.drop_index("ix_refunds_payment", table_name="refunds")
    op.drop_table("refunds")
