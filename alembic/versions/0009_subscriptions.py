"""subscriptions

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0009"
down_revision = "0008"


CHECKS = (
    ("payments", "ck_payments_an_invoice_is_of_a_subscription", "(invoice_id IS NULL) = (subscription_id IS NULL)"),
    ("outbox", "ck_outbox_a_notice_is_of_one_stream", "payment_id IS NULL OR subscription_id IS NULL"),
    ("workspaces", "ck_workspaces_grace_is_not_negative", "dunning_grace_days >= 0"),
    (
        "workspaces",
        "ck_workspaces_final_action_is_known",
        "dunning_final_action IN ('cancel', 'expire', 'keep')",
    ),
)


def upgrade() -> None:
    _plans()
    _subscriptions()
    _invoices()
    _changes_to_others()
    for table, name, rule in CHECKS:
        op.create_check_constraint(op.f(name), table, rule)


def _plans() -> None:
    op.create_table(
        "customer_credits",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("balance", sa.Numeric(precision=19, scale=4), server_default="0", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("balance >= 0", name=op.f("ck_customer_credits_balance_is_not_negative")),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_customer_credits_workspace_id")),
        sa.PrimaryKeyConstraint("workspace_id", "customer_id", "currency", name=op.f("pk_customer_credits")),
    )
    op.create_table(
        "plans",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("amount", sa.Numeric(precision=19, scale=4), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("interval_unit", sa.String(length=8), nullable=False),
        sa.Column("interval_count", sa.Integer(), nullable=False),
        sa.Column("trial_days", sa.Integer(), server_default="0", nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_plans_amount_is_not_negative")),
        sa.CheckConstraint("interval_count > 0", name=op.f("ck_plans_interval_is_positive")),
        sa.CheckConstraint("trial_days >= 0", name=op.f("ck_plans_trial_is_not_negative")),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_plans_workspace_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plans")),
        sa.UniqueConstraint("workspace_id", "code", "version", name=op.f("uq_plans_workspace_id_code_version")),
    )
    op.create_index(
        "uq_plans_active", "plans", ["workspace_id", "code"], unique=True, postgresql_where=sa.text("active")
    )


def _subscriptions() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("customer_name", sa.String(length=200), nullable=True),
        sa.Column("customer_email", sa.String(length=320), nullable=True),
        sa.Column("customer_tax_id", sa.String(length=32), nullable=True),
        sa.Column("customer_phone", sa.String(length=32), nullable=True),
        sa.Column("language", sa.String(length=2), server_default="en", nullable=False),
        sa.Column("plan_id", sa.Uuid(), nullable=True),
        sa.Column("quantity", sa.Integer(), server_default="1", nullable=False),
        sa.Column("pending_plan_id", sa.Uuid(), nullable=True),
        sa.Column("pending_quantity", sa.Integer(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("anchor", sa.DateTime(timezone=True), nullable=False),
        sa.Column("anchor_period", sa.Integer(), nullable=False),
        sa.Column("period", sa.Integer(), nullable=False),
        sa.Column("current_period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("current_period_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trial_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("trial_notice_sent", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("cancel_at_period_end", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_reason", sa.String(length=300), nullable=True),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resume_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("payment_method_id", sa.Uuid(), nullable=True),
        sa.Column("referrer_id", sa.String(length=128), nullable=True),
        sa.Column("managed_by", sa.String(length=16), server_default="us", nullable=False),
        sa.Column("provider_account_id", sa.Uuid(), nullable=True),
        sa.Column("provider_subscription_id", sa.String(length=255), nullable=True),
        sa.Column("success_url", sa.Text(), nullable=True),
        sa.Column("cancel_url", sa.Text(), nullable=True),
        sa.Column(
            "metadata", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True),
        sa.Column("notice_seq", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_action_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("wake_wanted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "managed_by = 'provider' OR plan_id IS NOT NULL", name=op.f("ck_subscriptions_ours_have_a_plan")
        ),
        sa.CheckConstraint(
            "current_period_end > current_period_start", name=op.f("ck_subscriptions_periods_go_forward")
        ),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_subscriptions_quantity_is_positive")),
        sa.ForeignKeyConstraint(["pending_plan_id"], ["plans.id"], name=op.f("fk_subscriptions_pending_plan_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_subscriptions_plan_id")),
        sa.ForeignKeyConstraint(
            ["provider_account_id"], ["provider_accounts.id"], name=op.f("fk_subscriptions_provider_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_method_id"], ["payment_methods.id"], name=op.f("fk_subscriptions_payment_method_id")
        ),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_subscriptions_workspace_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriptions")),
        sa.UniqueConstraint(
            "provider_account_id",
            "provider_subscription_id",
            name=op.f("uq_subscriptions_provider_account_id_provider_subscription_id"),
        ),
        sa.UniqueConstraint(
            "workspace_id", "idempotency_key", name=op.f("uq_subscriptions_workspace_id_idempotency_key")
        ),
    )
    op.create_index("ix_subscriptions_customer", "subscriptions", ["workspace_id", "customer_id"], unique=False)
    op.create_index(
        "ix_subscriptions_wake",
        "subscriptions",
        ["wake_wanted_at"],
        unique=False,
        postgresql_where=sa.text("wake_wanted_at IS NOT NULL"),
    )
    op.create_index(
        "ix_subscriptions_workspace_created", "subscriptions", ["workspace_id", "created_at", "status"], unique=False
    )


def _invoices() -> None:
    op.create_table(
        "invoices",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("subscription_id", sa.Uuid(), nullable=False),
        sa.Column("period", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lines", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("subtotal", sa.Numeric(precision=19, scale=4), nullable=False),
        sa.Column("credit_applied", sa.Numeric(precision=19, scale=4), server_default="0", nullable=False),
        sa.Column("total", sa.Numeric(precision=19, scale=4), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="open", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("retries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed_attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("first_failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("grace_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decline_code", sa.String(length=200), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("paid_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("provider_invoice_id", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("subtotal = total + credit_applied", name=op.f("ck_invoices_parts_sum_to_subtotal")),
        sa.CheckConstraint("total >= 0 AND credit_applied >= 0", name=op.f("ck_invoices_amounts_are_not_negative")),
        sa.ForeignKeyConstraint(["subscription_id"], ["subscriptions.id"], name=op.f("fk_invoices_subscription_id")),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_invoices_workspace_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoices")),
        sa.UniqueConstraint(
            "subscription_id", "period", "sequence", name=op.f("uq_invoices_subscription_id_period_sequence")
        ),
        sa.UniqueConstraint(
            "subscription_id", "provider_invoice_id", name=op.f("uq_invoices_subscription_id_provider_invoice_id")
        ),
    )
    op.create_index("ix_invoices_workspace_created", "invoices", ["workspace_id", "created_at", "status"], unique=False)
    op.create_table(
        "subscription_changes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("subscription_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("answer", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscriptions.id"], name=op.f("fk_subscription_changes_subscription_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscription_changes")),
    )
    op.create_index(
        "ix_subscription_changes_subscription", "subscription_changes", ["subscription_id", "created_at"], unique=False
    )


def _changes_to_others() -> None:
    op.add_column("outbox", sa.Column("subscription_id", sa.Uuid(), nullable=True))
    op.add_column(
        "outbox",
        sa.Column(
            "stream",
            sa.Uuid(),
            sa.Computed("coalesce(payment_id, subscription_id, id)", persisted=True),
            nullable=False,
        ),
    )
    op.drop_constraint(op.f("uq_outbox_payment_id_seq"), "outbox", type_="unique")
    op.create_unique_constraint(op.f("uq_outbox_stream_seq"), "outbox", ["stream", "seq"])
    op.create_foreign_key(op.f("fk_outbox_subscription_id"), "outbox", "subscriptions", ["subscription_id"], ["id"])
    op.add_column("payments", sa.Column("subscription_id", sa.Uuid(), nullable=True))
    op.add_column("payments", sa.Column("invoice_id", sa.Uuid(), nullable=True))
    op.create_index(
        "ix_payments_invoice",
        "payments",
        ["invoice_id"],
        unique=False,
        postgresql_where=sa.text("invoice_id IS NOT NULL"),
    )
    op.create_index(
        "ix_payments_subscription",
        "payments",
        ["subscription_id"],
        unique=False,
        postgresql_where=sa.text("subscription_id IS NOT NULL"),
    )
    op.create_foreign_key(op.f("fk_payments_subscription_id"), "payments", "subscriptions", ["subscription_id"], ["id"])
    op.create_foreign_key(op.f("fk_payments_invoice_id"), "payments", "invoices", ["invoice_id"], ["id"])
    op.add_column(
        "workspaces",
        sa.Column(
            "dunning_retry_days",
            postgresql.ARRAY(sa.Integer()),
            server_default=sa.text("'{2,5,7,7}'::integer[]"),
            nullable=False,
        ),
    )
    op.add_column("workspaces", sa.Column("dunning_grace_days", sa.Integer(), server_default="21", nullable=False))
    op.add_column(
        "workspaces", sa.Column("dunning_final_action", sa.String(length=16), server_default="cancel", nullable=False)
    )
    op.add_column(
        "workspaces", sa.Column("cancel_on_full_refund", sa.Boolean(), server_default=sa.text("true"), nullable=False)
    )


def downgrade() -> None:
    for table, name, _ in CHECKS:
        op.drop_constraint(op.f(name), table, type_="check")
    op.execute("DELETE FROM outbox WHERE subscription_id IS NOT NULL")
    op.drop_column("workspaces", "cancel_on_full_refund")
    op.drop_column("workspaces", "dunning_final_action")
    op.drop_column("workspaces", "dunning_grace_days")
    op.drop_column("workspaces", "dunning_retry_days")
    op.drop_constraint(op.f("fk_payments_invoice_id"), "payments", type_="foreignkey")
    op.drop_constraint(op.f("fk_payments_subscription_id"), "payments", type_="foreignkey")
    op.drop_index("ix_payments_subscription", table_name="payments")
    op.drop_index("ix_payments_invoice", table_name="payments", postgresql_where=sa.text("invoice_id IS NOT NULL"))
    op.drop_column("payments", "invoice_id")
    op.drop_column("payments", "subscription_id")
    op.drop_constraint(op.f("fk_outbox_subscription_id"), "outbox", type_="foreignkey")
    op.drop_constraint(op.f("uq_outbox_stream_seq"), "outbox", type_="unique")
    op.create_unique_constraint(op.f("uq_outbox_payment_id_seq"), "outbox", ["payment_id", "seq"])
    op.drop_column("outbox", "stream")
    op.drop_column("outbox", "subscription_id")
    op.drop_index("ix_subscription_changes_subscription", table_name="subscription_changes")
    op.drop_table("subscription_changes")
    op.drop_index("ix_invoices_workspace_created", table_name="invoices")
    op.drop_table("invoices")
    op.drop_index("ix_subscriptions_workspace_created", table_name="subscriptions")
    op.drop_index(
        "ix_subscriptions_wake", table_name="subscriptions", postgresql_where=sa.text("wake_wanted_at IS NOT NULL")
    )
    op.drop_index("ix_subscriptions_customer", table_name="subscriptions")
    op.drop_table("subscriptions")
    op.drop_index("uq_plans_active", table_name="plans", postgresql_where=sa.text("active"))
    op.drop_table("plans")
    op.drop_table("customer_credits")
