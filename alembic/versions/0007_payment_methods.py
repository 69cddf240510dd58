"""payment methods

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    _methods()
    _customers()
    _setups()
    op.add_column("payments", sa.Column("payment_method_id", sa.Uuid(), nullable=True))
    op.add_column("payments", sa.Column("save_method", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("payments", sa.Column("off_session", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_foreign_key(
        op.f("fk_payments_payment_method_id"), "payments", "payment_methods", ["payment_method_id"], ["id"]
    )


def _methods() -> None:
    op.create_table(
        "payment_methods",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("provider_account_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("provider_customer_id", sa.String(length=255), nullable=True),
        sa.Column("token", sa.LargeBinary(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.String(length=32), server_default="card", nullable=False),
        sa.Column("brand", sa.String(length=32), nullable=True),
        sa.Column("last4", sa.String(length=4), nullable=True),
        sa.Column("exp_month", sa.Integer(), nullable=True),
        sa.Column("exp_year", sa.Integer(), nullable=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True),
        sa.Column("status", sa.String(length=16), server_default="active", nullable=False),
        sa.Column("is_default", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("detached_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "NOT is_default OR status = 'active'", name=op.f("ck_payment_methods_the_default_is_active")
        ),
        sa.CheckConstraint("exp_month BETWEEN 1 AND 12", name=op.f("ck_payment_methods_exp_month_is_a_month")),
        sa.ForeignKeyConstraint(
            ["provider_account_id"], ["provider_accounts.id"], name=op.f("fk_payment_methods_provider_account_id")
        ),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_payment_methods_workspace_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_methods")),
        sa.UniqueConstraint(
            "provider_account_id",
            "token_hash",
            "customer_id",
            name=op.f("uq_payment_methods_provider_account_id_token_hash_customer_id"),
        ),
    )
    op.create_index(
        "ix_payment_methods_customer", "payment_methods", ["workspace_id", "customer_id", "created_at"], unique=False
    )
    op.create_index(
        "ix_payment_methods_provider_customer",
        "payment_methods",
        ["provider_account_id", "provider_customer_id"],
        unique=False,
    )
    op.create_index(
        "uq_payment_methods_default",
        "payment_methods",
        ["workspace_id", "customer_id"],
        unique=True,
        postgresql_where=sa.text("is_default"),
    )


def _customers() -> None:
    op.create_table(
        "provider_customers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("provider_account_id", sa.Uuid(), nullable=False),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("provider_customer_id", sa.String(length=255), nullable=False),
        sa.Column("deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["provider_account_id"], ["provider_accounts.id"], name=op.f("fk_provider_customers_provider_account_id")
        ),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_provider_customers_workspace_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_customers")),
        sa.UniqueConstraint(
            "provider_account_id", "customer_id", name=op.f("uq_provider_customers_provider_account_id_customer_id")
        ),
        sa.UniqueConstraint(
            "provider_account_id",
            "provider_customer_id",
            name=op.f("uq_provider_customers_provider_account_id_provider_customer_id"),
        ),
    )


def _setups() -> None:
    op.create_table(
        "method_setups",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("provider_account_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("customer_name", sa.String(length=200), nullable=True),
        sa.Column("customer_email", sa.String(length=320), nullable=True),
        sa.Column("customer_phone", sa.String(length=32), nullable=True),
        sa.Column("make_default", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("language", sa.String(length=2), server_default="en", nullable=False),
        sa.Column("success_url", sa.Text(), nullable=True),
        sa.Column("cancel_url", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=16), server_default="created", nullable=False),
        sa.Column("error_code", sa.String(length=100), nullable=True),
        sa.Column("session_id", sa.String(length=255), nullable=True),
        sa.Column("session_secret", sa.LargeBinary(), nullable=True),
        sa.Column("checkout_url", sa.Text(), nullable=True),
        sa.Column("payment_method_id", sa.Uuid(), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(status = 'succeeded') = (payment_method_id IS NOT NULL)",
            name=op.f("ck_method_setups_success_has_a_method"),
        ),
        sa.ForeignKeyConstraint(
            ["payment_method_id"], ["payment_methods.id"], name=op.f("fk_method_setups_payment_method_id")
        ),
        sa.ForeignKeyConstraint(
            ["provider_account_id"], ["provider_accounts.id"], name=op.f("fk_method_setups_provider_account_id")
        ),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_method_setups_workspace_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_method_setups")),
        sa.UniqueConstraint(
            "provider_account_id", "session_id", name=op.f("uq_method_setups_provider_account_id_session_id")
        ),
        sa.UniqueConstraint(
            "workspace_id", "idempotency_key", name=op.f("uq_method_setups_workspace_id_idempotency_key")
        ),
    )
    op.create_index(
        "ix_method_setups_unstarted",
        "method_setups",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("status = 'created'"),
    )


def downgrade() -> None:
    op.drop_constraint(op.f("fk_payments_payment_method_id"), "payments", type_="foreignkey")
    for column in ("off_session", "save_method", "payment_method_id"):
        op.drop_column("payments", column)
    op.drop_table("method_setups")
    op.drop_table("provider_customers")
    op.drop_table("payment_methods")
