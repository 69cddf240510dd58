"""`payment-cli`: the operator's tool."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

import process
from cli.admin import account, api_key, audit_log, generate_codec_key, generate_key, workspace
from cli.commissions import commissions
from cli.payment_methods import methods
from cli.payments import payment_info
from cli.referrers import blocklist
from cli.refunds import process_refund
from cli.signatures import sign, verify_webhook
from cli.subscriptions import subscription_info
from cli.webhooks import webhook_replay, webhook_status


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Operate durable payments: look at payments, callbacks and commissions, administer workspaces and keys."""


for command in (
    payment_info,
    process_refund,
    subscription_info,
    methods,
    webhook_status,
    webhook_replay,
    verify_webhook,
    sign,
    commissions,
    blocklist,
    workspace,
    account,
    api_key,
    audit_log,
    generate_key,
    generate_codec_key,
):
    cli.add_command(command)


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
