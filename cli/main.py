"""`payment-cli`: the operator's tool."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

import process
from cli.lazy import Lazy


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Operate durable payments: look at payments, callbacks and commissions, administer workspaces and keys."""


for name, place, help_text in (
    ("payment-info", "payments:payment_info", "Everything on record about one payment."),
    (
        "process-refund",
        "refunds:process_refund",
        "Refund a payment, in full or in part. A repeat with --key is the same refund.",
    ),
    (
        "settle-refund",
        "refunds:settle_refund",
        "Record that a refund which came back was paid by other means; the same reference again changes nothing.",
    ),
    (
        "review",
        "reviews:review",
        "Decide on a payment that waits for a person. Without an action: why it waits, and what each action does.",
    ),
    (
        "credit-info",
        "customer_credit:credit_info",
        "A customer's credit: the payments that it comes from, and its turns.",
    ),
    (
        "credit-payout",
        "customer_credit:credit_payout",
        "Pay a customer's credit out. The payments that it comes from are refunded, each by its part.",
    ),
    ("credit-withdraw", "customer_credit:credit_withdraw", "Take credit from a customer. Nobody is paid."),
    (
        "credit-write-off",
        "customer_credit:credit_write_off",
        "Bear the loss of credit that was used before its money went back.",
    ),
    (
        "subscription-info",
        "subscriptions:subscription_info",
        "A customer's subscriptions on record. With invoices, attempts, methods, messages and history.",
    ),
    (
        "payment-methods",
        "payment_methods:methods",
        "Saved payment methods of customers. What charges one is never shown.",
    ),
    (
        "risk-alerts",
        "risk_alerts:risk_alerts_list",
        "Banks' early fraud warnings and providers' reviews, and what was done about each; the newest hundred.",
    ),
    ("webhook-status", "webhooks:webhook_status", "How callbacks and order notifications are doing."),
    (
        "webhook-replay",
        "webhooks:webhook_replay",
        "Put events or notifications back in line. A running worker takes them up within seconds.",
    ),
    ("verify-webhook", "signatures:verify_webhook", "Print `valid` (exit 0) or `invalid: <why>` (exit 1)."),
    (
        "sign",
        "signatures:sign",
        "Print a signature and nothing else. Of a request's fields, or of a callback (kind `webhook`).",
    ),
    ("commissions", "commissions:commissions", "Referral commissions."),
    ("blocklist", "referrers:blocklist", "Who and what earns no commission."),
    ("workspace", "admin:workspace", "Tenants."),
    ("account", "admin:account", "Provider accounts."),
    ("api-key", "api_keys:api_key", "Keys of callers."),
    ("audit", "audit:audit_log", "The audit log."),
    ("generate-key", "generators:generate_key", "A new key for CREDENTIALS_KEYS."),
    ("generate-codec-key", "generators:generate_codec_key", "A new key for TEMPORAL_CODEC_KEYS."),
):
    cli.add_command(Lazy(name, f"cli.{place}", help_text))


def run(arguments: Sequence[str]) -> int:
    """Run one command. Returns the exit code: 0 done, 1 it could not be done, 2 wrong usage."""
    try:
        code = cli.main(args=list(arguments), prog_name="payment-cli", standalone_mode=False)
    except click.Abort:
        click.echo("stopped", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return code if isinstance(code, int) else 0


def main() -> None:
    """The entry point."""
    process.end(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    main()
