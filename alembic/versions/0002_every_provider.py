"""every provider

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "bank_lists",
        sa.Column("provider_account_id", sa.Uuid(), nullable=False),
        sa.Column("banks", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["provider_account_id"], ["provider_accounts.id"], name=op.f("fk_bank_lists_provider_account_id")
        ),
        sa.PrimaryKeyConstraint("provider_account_id", name=op.f("pk_bank_lists")),
    )
    op.create_table(
        "provider_health",
        sa.Column("provider_account_id", sa.Uuid(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probe_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_success_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_failure_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_failure_code", sa.String(length=100), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["provider_account_id"], ["provider_accounts.id"], name=op.f("fk_provider_health_provider_account_id")
        ),
        sa.PrimaryKeyConstraint("provider_account_id", name=op.f("pk_provider_health")),
    )
    op.create_table(
        "surplus_captures",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("attempt_id", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("transaction_id", sa.String(length=255), nullable=False),
        sa.Column("amount", sa.Numeric(precision=19, scale=4), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="proposed", nullable=False),
        sa.Column("provider_refund_id", sa.String(length=255), nullable=True),
        sa.Column("failure_code", sa.String(length=100), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_surplus_captures_amount_is_positive")),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_surplus_captures_attempt_id")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_surplus_captures_payment_id")),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_surplus_captures_workspace_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_surplus_captures")),
        sa.UniqueConstraint("provider", "transaction_id", name=op.f("uq_surplus_captures_provider_transaction_id")),
    )
    op.create_index("ix_surplus_captures_payment", "surplus_captures", ["payment_id"], unique=False)
    op.create_index(
        "ix_surplus_captures_workspace_status",
        "surplus_captures",
        ["workspace_id", "status", "created_at"],
        unique=False,
    )
    op.add_column("attempts", sa.Column("reference", sa.Uuid(), nullable=True))
    op.execute("UPDATE attempts SET reference = payment_id")  # there was one attempt a payment
    op.alter_column("attempts", "reference", nullable=False)
    op.add_column("attempts", sa.Column("checkout_mode", sa.String(length=16), server_default="hosted", nullable=False))
    op.add_column("attempts", sa.Column("method", sa.String(length=32), nullable=True))
    op.add_column("attempts", sa.Column("method_fields", sa.LargeBinary(), nullable=True))
    op.add_column("attempts", sa.Column("session_secret", sa.LargeBinary(), nullable=True))
    op.add_column("attempts", sa.Column("checkout_url", sa.Text(), nullable=True))
    op.add_column("attempts", sa.Column("form", sa.LargeBinary(), nullable=True))
    op.add_column("attempts", sa.Column("instructions", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("attempts", sa.Column("transaction_id", sa.String(length=255), nullable=True))
    op.create_index(
        "ix_attempts_transaction",
        "attempts",
        ["provider_account_id", "transaction_id"],
        unique=False,
        postgresql_where=sa.text("transaction_id IS NOT NULL"),
    )
    op.drop_constraint(op.f("uq_attempts_provider_session_id"), "attempts", type_="unique")
    op.create_unique_constraint(
        op.f("uq_attempts_provider_account_id_session_id"), "attempts", ["provider_account_id", "session_id"]
    )
    op.create_unique_constraint(op.f("uq_attempts_reference"), "attempts", ["reference"])
    op.add_column("payments", sa.Column("customer_phone", sa.String(length=32), nullable=True))
    op.add_column("payments", sa.Column("customer_document_type", sa.String(length=8), nullable=True))
    op.add_column("payments", sa.Column("customer_document", sa.String(length=32), nullable=True))
    op.add_column("payments", sa.Column("customer_ip", sa.String(length=45), nullable=True))
    op.add_column("payments", sa.Column("method", sa.String(length=32), nullable=True))
    op.add_column("payments", sa.Column("method_fields", sa.LargeBinary(), nullable=True))
    op.add_column(
        "payments",
        sa.Column(
            "fallback_accounts", postgresql.ARRAY(sa.Uuid()), server_default=sa.text("'{}'::uuid[]"), nullable=False
        ),
    )
    op.add_column("payments", sa.Column("instructions", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("webhook_events", sa.Column("reference", sa.Uuid(), nullable=True))
    op.add_column("webhook_events", sa.Column("session_id", sa.String(length=255), nullable=True))
    op.add_column("webhook_events", sa.Column("transaction_id", sa.String(length=255), nullable=True))
    op.add_column(
        "workspaces", sa.Column("payments_enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False)
    )
    op.add_column(
        "workspaces", sa.Column("one_capture_per_order", sa.Boolean(), server_default=sa.text("true"), nullable=False)
    )
    op.add_column(
        "workspaces",
        sa.Column(
            "provider_order", postgresql.ARRAY(sa.Uuid()), server_default=sa.text("'{}'::uuid[]"), nullable=False
        ),
    )
    op.add_column(
        "workspaces", sa.Column("surplus_policy", sa.String(length=16), server_default="propose", nullable=False)
    )


def downgrade() -> None:
    op.drop_column("workspaces", "surplus_policy")
    op.drop_column("workspaces", "provider_order")
    op.drop_column("workspaces", "one_capture_per_order")
    op.drop_column("workspaces", "payments_enabled")
    op.drop_column("webhook_events", "transaction_id")
    op.drop_column("webhook_events", "session_id")
    op.drop_column("webhook_events", "reference")
    op.drop_column("payments", "instructions")
    op.drop_column("payments", "fallback_accounts")
    op.drop_column("payments", "method_fields")
    op.drop_column("payments", "method")
    op.drop_column("payments", "customer_ip")
    op.drop_column("payments", "customer_document")
    op.drop_column("payments", "customer_document_type")
    op.drop_column("payments", "customer_phone")
    op.drop_constraint(op.f("uq_attempts_reference"), "attempts", type_="unique")
    op.drop_constraint(op.f("uq_attempts_provider_account_id_session_id"), "attempts", type_="unique")
    op.create_unique_constraint(op.f("uq_attempts_provider_session_id"), "attempts", ["provider", "session_id"])
    op.drop_index(
        "ix_attempts_transaction", table_name="attempts", postgresql_where=sa.text("transaction_id IS NOT NULL")
    )
    op.drop_column("attempts", "transaction_id")
    op.drop_column("attempts", "instructions")
    op.drop_column("attempts", "form")
    op.drop_column("attempts", "checkout_url")
    op.drop_column("attempts", "session_secret")
    op.drop_column("attempts", "method_fields")
    op.drop_column("attempts", "method")
    op.drop_column("attempts", "checkout_mode")
    op.drop_column("attempts", "reference")
    op.drop_index("ix_surplus_captures_workspace_status", table_name="surplus_captures")
    op.drop_index("ix_surplus_captures_payment", table_name="surplus_captures")
    op.drop_table("surplus_captures")
    op.drop_table("provider_health")
    op.drop_table("bank_lists")
