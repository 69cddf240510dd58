"""credit knows the payments whose captured money it comes from

Credit from before is tied to its payments as far as the rows tell: each change of plan that carried something forward
is tied to the last payment that the subscription had made by then, at most for what is left of that payment, and what
the customer has now is taken to be of the newest of them. What cannot be tied has no source: it pays invoices as
before and can be withdrawn, and is not refunded.

Revision ID: 0024
Revises: 0023
"""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa

from alembic import op

revision = "0024"
down_revision = "0023"

AMOUNT = sa.Numeric(19, 4)
GRANTS = sa.text("""
    SELECT DISTINCT ON (change.id) credit.workspace_id, credit.customer_id, credit.currency, credit.balance,
           change.id AS cause_id, change.created_at, payment.id AS payment_id,
           (change.answer #>> '{effects,carried_forward}')::numeric AS amount,
           payment.amount - payment.refunded - payment.refund_reserved - payment.dispute_held AS money_left
    FROM customer_credits AS credit
    JOIN subscriptions AS subscription
      ON subscription.workspace_id = credit.workspace_id AND subscription.customer_id = credit.customer_id
    JOIN subscription_changes AS change
      ON change.subscription_id = subscription.id AND change.kind = 'change_plan'
     AND change.answer #>> '{effects,currency}' = credit.currency
     AND (change.answer #>> '{effects,carried_forward}')::numeric > 0
    JOIN invoices AS invoice
      ON invoice.subscription_id = subscription.id AND invoice.status = 'paid' AND invoice.paid_at <= change.created_at
     AND invoice.currency = credit.currency
    JOIN payments AS payment ON payment.id = invoice.payment_id
    ORDER BY change.id, invoice.paid_at DESC
""")
INSERT = sa.text("""
    INSERT INTO credit_entries
        (workspace_id, customer_id, currency, payment_id, kind, unused, used, cause_id, reason, created_at)
    VALUES (:workspace_id, :customer_id, :currency, :payment_id, :kind, :unused, :used, :cause_id,
            'tied to its payment later', :created_at)
""")


def upgrade() -> None:
    op.create_table(
        "credit_entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("invoice_id", sa.Uuid(), nullable=True),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("unused", AMOUNT, nullable=False),
        sa.Column("used", AMOUNT, nullable=False),
        sa.Column("cause_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("unused <> 0 OR used <> 0", name=op.f("ck_credit_entries_changes_something")),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_credit_entries_invoice_id")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_credit_entries_payment_id")),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_credit_entries_workspace_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_entries")),
    )
    op.create_index("ix_credit_entries_customer", "credit_entries", ["workspace_id", "customer_id", "currency"])
    op.create_index("ix_credit_entries_payment", "credit_entries", ["payment_id"])
    op.create_index("ix_credit_entries_cause", "credit_entries", ["cause_id"])
    op.create_index(
        "ix_credit_entries_invoice",
        "credit_entries",
        ["invoice_id"],
        postgresql_where=sa.text("invoice_id IS NOT NULL"),
    )
    op.add_column("refunds", sa.Column("credit_taken", AMOUNT, nullable=True))
    op.add_column("disputes", sa.Column("credit_taken", AMOUNT, server_default="0", nullable=False))
    _tie(op.get_bind())
    op.execute(
        "CREATE TRIGGER credit_entries_append_only BEFORE UPDATE OR DELETE ON credit_entries"
        " FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER credit_entries_no_truncate BEFORE TRUNCATE ON credit_entries"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def downgrade() -> None:
    op.drop_column("disputes", "credit_taken")
    op.drop_column("refunds", "credit_taken")
    op.drop_table("credit_entries")


def _tie(connection: sa.Connection) -> None:
    """Newest changes first, as the oldest credit is used first."""
    unused: dict[tuple[object, str, str], Decimal] = {}
    money: dict[object, Decimal] = {}
    rows = sorted(connection.execute(GRANTS).mappings(), key=lambda row: row["created_at"], reverse=True)
    for row in rows:
        owner = (row["workspace_id"], row["customer_id"], row["currency"])
        left = unused.setdefault(owner, row["balance"])
        room = money.setdefault(row["payment_id"], row["money_left"])
        granted = min(row["amount"], max(room, Decimal(0)))
        kept = min(left, granted)
        if not granted:
            continue
        unused[owner], money[row["payment_id"]] = left - kept, room - granted
        entry = {name: row[name] for name in ("workspace_id", "customer_id", "currency", "payment_id", "cause_id")}
        entry["created_at"] = row["created_at"]
        connection.execute(INSERT, entry | {"kind": "granted", "unused": granted, "used": 0})
        if granted > kept:
            spent = granted - kept
            connection.execute(INSERT, entry | {"kind": "applied", "unused": -spent, "used": spent})
