"""An account's credentials and options, read once and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from providers.base import AccountConfig, ProviderMisconfigured
from providers.http import base_address

PRODUCTION = "https://restapi.payplus.co.il/api/v1.0"
STAGING = "https://restapidev.payplus.co.il/api/v1.0"
REQUIRED_CREDENTIALS = ("api_key", "secret_key", "payment_page_uid")

_BASES = {"production": PRODUCTION, "staging": STAGING}
MAX_DESCRIPTIONS = 20


@dataclass(frozen=True, slots=True)
class PayPlusAccount:
    """One merchant's account. Everything beyond the credentials has a default that follows PayPlus's documents."""

    api_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    payment_page_uid: str = field(repr=False)
    previous_secret_key: str | None = field(default=None, repr=False)
    """Still accepted on callbacks while the secret key is changed."""
    api_base: str = PRODUCTION
    live: bool = True
    auth_form: str = "headers"
    """`headers` (current documents) or `authorization` (what PayPlus's own plugins send)."""
    gbp_code: str = "GBP"
    """The documents' list of currencies prints `GPB`: UNCONFIRMED which of the two is accepted."""
    terminal_uid: str | None = None
    """Where set, a callback of another terminal is refused. Charges of saved tokens need it."""
    cashier_uid: str | None = None
    """Charges of saved tokens need it."""
    send_email_approval: bool = False
    send_email_failure: bool = False
    initial_invoice: bool | None = None
    """Whether PayPlus issues its own documents, of refunds too; None leaves it to the payment page."""
    refund_documents: bool = False
    """Whether a refund whose answer was lost is also looked for among PayPlus's credit documents."""
    not_found_descriptions: tuple[str, ...] = ()
    """Further texts by which a status query says that nobody paid yet: only some are known (UNCONFIRMED)."""
    closed_descriptions: tuple[str, ...] = ()
    """Further texts by which Disable says that the page is closed already (UNCONFIRMED)."""

    @classmethod
    def of(cls, config: AccountConfig) -> PayPlusAccount:
        """Read and check. Raises ProviderMisconfigured naming the credential or option, never its value."""
        options = config.options
        environment = _one_of(options, "environment", ("production", "staging"))
        base = base_address(options, "api_base")
        api_key, secret_key, page = (config.credential(name) for name in REQUIRED_CREDENTIALS)
        invoices, documents = _flag(options, "initial_invoice"), _flag(options, "refund_documents") or False
        if documents and invoices is False:  # there would be none
            raise ProviderMisconfigured("option_invalid", "refund_documents")
        previous = config.credentials.get("previous_secret_key", "").strip()
        return cls(
            api_key=api_key,
            secret_key=secret_key,
            payment_page_uid=page,
            previous_secret_key=previous or None,
            api_base=base or _BASES[environment],
            live=base is None and environment == "production",
            auth_form=_one_of(options, "auth_form", ("headers", "authorization")),
            gbp_code=_one_of(options, "gbp_code", ("GBP", "GPB")),
            terminal_uid=_text(options, "terminal_uid"),
            cashier_uid=_text(options, "cashier_uid"),
            send_email_approval=_flag(options, "send_email_approval") or False,
            send_email_failure=_flag(options, "send_email_failure") or False,
            initial_invoice=invoices,
            refund_documents=documents,
            not_found_descriptions=_texts(options, "not_found_descriptions"),
            closed_descriptions=_texts(options, "closed_descriptions"),
        )

    @property
    def charges_tokens(self) -> bool:
        """Whether all is known that the charge of a saved token needs."""
        return self.terminal_uid is not None and self.cashier_uid is not None

    @property
    def callback_secrets(self) -> tuple[str, ...]:
        """The keys that a callback may be signed with, the current one first."""
        return (self.secret_key,) if self.previous_secret_key is None else (self.secret_key, self.previous_secret_key)


def _text(options: Mapping[str, object], name: str) -> str | None:
    value = options.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise ProviderMisconfigured("option_invalid", name)
    return value.strip()


def _one_of(options: Mapping[str, object], name: str, known: tuple[str, ...]) -> str:
    value = options.get(name, known[0])
    if value not in known:
        raise ProviderMisconfigured("option_invalid", name)
    return str(value)


def _flag(options: Mapping[str, object], name: str) -> bool | None:
    value = options.get(name)
    if value is not None and not isinstance(value, bool):
        raise ProviderMisconfigured("option_invalid", name)
    return value


def _texts(options: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = options.get(name, ())
    if not isinstance(value, list | tuple) or len(value) > MAX_DESCRIPTIONS:
        raise ProviderMisconfigured("option_invalid", name)
    if not all(isinstance(one, str) and one.strip() for one in value):
        raise ProviderMisconfigured("option_invalid", name)
    return tuple(str(one) for one in value)
