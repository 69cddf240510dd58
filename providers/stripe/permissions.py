"""What a restricted key must be allowed: every resource that this adapter calls, or has expanded in an answer.

Names are those of Stripe's dashboard. `tests/providers/test_stripe_permissions.py` reads the calls from the code and
the table in docs/connect-stripe.md, and says what is missing in either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Permission:
    """One resource. `calls` are the library's services, `expands` the fields of other objects that hold it whole.

    `probe` is a call that reads and changes nothing: a list of one, or, where there is no list, an id that nobody has.
    `only_for` names the option or method without which it is not needed; None where everybody needs it.
    """

    resource: str
    level: Literal["read", "write"]
    calls: tuple[str, ...]
    why: str
    expands: tuple[str, ...] = ()
    probe: str | None = None
    only_for: str | None = None

    @property
    def reads(self) -> str:
        """The service that the probe is sent to."""
        return self.probe or self.calls[0]


PERMISSIONS: Final = (
    Permission("Checkout Sessions", "write", ("checkout.sessions",), "hosted payments, pages that save a method"),
    Permission(
        "PaymentIntents",
        "write",
        ("payment_intents",),
        "direct payments, charges of saved methods, looks",
        expands=("payment_intent",),
    ),
    Permission("Charges and Refunds", "write", ("refunds",), "refunds", expands=("refunds",)),
    Permission("Charges", "read", (), "every look", expands=("latest_charge",), probe="charges"),
    Permission("Disputes", "read", ("disputes",), "disputes are followed"),
    Permission("Radar early fraud warnings", "read", ("radar.early_fraud_warnings",), "what the payer's bank warns of"),
    Permission("Reviews", "read", ("reviews",), "how a review of a payment ended"),
    Permission("Customers", "write", ("customers",), "saved methods belong to one"),
    Permission(
        "PaymentMethods",
        "write",
        ("payment_methods",),
        "saved methods are read and detached",
        expands=("payment_method",),
    ),
    Permission(
        "SetupIntents", "read", (), "pages that save a method", expands=("setup_intent",), probe="setup_intents"
    ),
    Permission("Mandates", "read", ("mandates",), "whether a method may still be debited"),
    Permission("Payment Links", "write", ("payment_links",), "payments by link", only_for="link"),
    Permission(
        "Subscriptions",
        "read",
        ("subscriptions",),
        "subscriptions that Stripe manages",
        only_for="follow_subscriptions",
    ),
    Permission(
        "Invoices",
        "read",
        ("invoices",),
        "their invoices, and what paid those",
        expands=("payments",),
        only_for="follow_subscriptions",
    ),
    Permission("Webhook Endpoints", "read", ("webhook_endpoints",), "the check compares version and events"),
    Permission("Account", "read", ("accounts",), "the check names the account"),
)
"""In the order of the connect page."""

WITHOUT_LIST: Final = {"payment_methods": "pm_permission_check", "mandates": "mandate_permission_check"}
"""Services that are asked for an id that nobody has: 404 to a key that may read."""
