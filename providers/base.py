"""The one contract of every payment provider: what it can do, what it is asked, what it answers, how it fails.

Errors are types that say what is known about the money:

    ProviderError
    ├── NothingMoved            certain: no money moved and none will because of this call
    │   ├── ProviderDeclined        the payer's bank or the provider said no; asking again is pointless
    │   ├── ProviderRejected        our request is wrong; asking again is pointless
    │   ├── ProviderMisconfigured   wrong or revoked credentials; an operator must act
    │   └── ProviderBusy            rate limited or refused before acting; ask again after `retry_after`
    └── OutcomeUnknown          time-out, broken connection, 5xx: it may have acted; look before any second try
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Literal, Protocol, runtime_checkable
from uuid import UUID
from zoneinfo import ZoneInfo

from domain.declines import DeclineClass, decline_class
from domain.dispute import DisputeState
from domain.money import Money
from domain.payment import PaymentStatus
from domain.provider_payout import PayoutSnapshot
from domain.risk import RiskAlertKind
from domain.setup import SetupStatus
from domain.subscription import InvoiceStatus, SubscriptionStatus
from providers.network import Network

UNREACHABLE = "unreachable"
"""The code of ProviderBusy where no connection could be made: nothing was sent."""


class ProviderError(Exception):
    """Base of all that a provider call raises. `code` is stable and safe to show; the text holds no personal data.

    `session_id` is the provider's object that the error is about, where there is one: a charge that was declined.
    """

    def __init__(
        self, code: str, detail: str = "", *, retry_after: timedelta | None = None, session_id: str | None = None
    ) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.session_id = session_id

    @property
    def what_happened(self) -> str:
        """`refused`: the provider gave this answer. `did not answer`: there was none, or no way to it."""
        return "refused" if isinstance(self, NothingMoved) and self.code != UNREACHABLE else "did not answer"


class NothingMoved(ProviderError):
    """Certain: no money moved because of this call."""


class ProviderDeclined(NothingMoved):
    """The payer's bank or the provider declined. The code is one of domain/declines.py where it can be."""

    final = False
    """Whether the provider demands that the saved method is never charged again."""

    @property
    def decline_class(self) -> DeclineClass:
        """Whether the same method may pay later."""
        return decline_class(self.code)


class ProviderRejected(NothingMoved):
    """The request is not acceptable to the provider (amount too small, unknown currency, …)."""


class ProviderMisconfigured(NothingMoved):
    """Credentials or account settings are wrong; an operator must act."""


class ProviderBusy(NothingMoved):
    """Refused before acting: rate limit or overload. `retry_after` is what the provider asked for."""


class OutcomeUnknown(ProviderError):
    """Silence: the provider may have acted. Look our reference up before anything else."""


class OutcomeUndecided(OutcomeUnknown):
    """The provider has answered, and its interface cannot tell, now or later, whether it acted: a person compares."""


class Rejection(StrEnum):
    """Why a callback was not accepted."""

    BAD_SIGNATURE = "bad_signature"
    WRONG_TOKEN = "wrong_token"  # noqa: S105  (a reason's name)
    STALE_TIMESTAMP = "stale_timestamp"
    FUTURE_TIMESTAMP = "future_timestamp"
    MALFORMED = "malformed_body"


class WebhookRejected(Exception):
    """The callback is not authentic or not readable; nothing may change because of it."""

    def __init__(self, reason: Rejection, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Method:
    """One way to pay. Limits are major units of `currency`; accounts may narrow them by their options.

    `fields` are the names that the caller must give in `method_fields`, `payer_fields` the parts of `Payer` that the
    provider insists on.
    """

    name: str
    kind: Literal["card", "bank", "wallet", "cash", "link"] = "card"
    currency: str | None = None
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    fields: tuple[str, ...] = ()
    payer_fields: tuple[str, ...] = ()
    refundable: bool = True
    max_lifetime: timedelta | None = None
    """How long a checkout by this method may be paid, wider or narrower than the sheet's; None for what that says."""
    closes: bool | None = None
    """Whether a checkout by this method can be closed; None for what the sheet says."""


CARD = Method("card")


@dataclass(frozen=True, slots=True)
class RefundWindow:
    """How long a capture can be refunded by a call: `days` calendar days of `zone` after its own, 0 for the same day.

    `afterwards` says where a person has the refund made then, as the end of a sentence.
    """

    days: int
    zone: str
    afterwards: str

    def is_over(self, captured_at: datetime, now: datetime) -> bool:
        """Whether a refund that is asked for now comes too late."""
        zone = ZoneInfo(self.zone)
        return (now.astimezone(zone).date() - captured_at.astimezone(zone).date()).days > self.days


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do. Workflows and routing read this, never a provider's name."""

    redirect_checkout: bool = True
    """Hosted mode: the payer is sent to a page of the provider."""
    direct_payment: bool = False
    """Direct mode: the merchant's page pays by the provider's client library and a client secret."""
    methods: tuple[Method, ...] = (CARD,)
    """What a payer can choose, the default first."""
    bank_list: bool = False
    """The adapter also has `ListsBanks`."""
    refund: bool = True
    partial_refund: bool = True
    refund_window: RefundWindow | None = None
    """None: as long as the payment is on record here."""
    max_refunds: int | None = None
    """How many refunds the provider makes of one capture, those that failed not counted; None: no limit."""
    lists_refunds: bool = False
    """`look` tells refunds one by one (`ProviderPayment.refunds`), where the provider shows them at all."""
    void: bool = False
    closes_checkout: bool = False
    status_call: bool = True
    """Without one, verified callbacks are the only source: what they claim is believed."""
    acknowledges: bool = False
    """The adapter also has `Acknowledges`: the provider wants to be told that its callback was understood."""
    one_checkout_per_reference: bool = True
    """A repeated creation finds the first checkout. If not, a repeat makes another one and the first, whose address
    nobody was given, lapses."""
    idempotency_key_lifetime: timedelta | None = None
    looks_up_by_reference: bool = False
    lists_events: bool = False
    failed_can_become_paid: bool = True
    saves_methods: bool = False
    """A hosted checkout can save the payer's method (`CheckoutRequest.save_method`)."""
    sets_up_methods: bool = False
    """The adapter also has `SavesMethods`: a page that saves a method and takes no money."""
    off_session: bool = False
    """The adapter also has `ChargesSaved`: a saved method is charged without the payer."""
    charge_payer_fields: tuple[str, ...] = ()
    """The parts of `Payer` that the provider insists on when a method is saved or a saved one is charged."""
    imports_tokens: bool = False
    """The adapter also has `ImportsTokens`: a token that the merchant's page got from the provider's own library."""
    customers: bool = False
    """The adapter also has `KeepsCustomers`: saved methods belong to a customer at the provider."""
    unit: Literal["minor", "major"] = "minor"
    currencies: frozenset[str] | None = None
    """None: every ISO 4217 currency."""
    steps: Mapping[str, int] = field(default_factory=dict)
    """Currency → minor units that every amount must be a multiple of, where that is more than one."""
    min_checkout_lifetime: timedelta = timedelta(0)
    max_checkout_lifetime: timedelta | None = None

    def step(self, currency: str) -> int:
        """Minor units that an amount of this currency must be a multiple of."""
        return self.steps.get(currency, 1)

    def closes(self, method: str | None) -> bool:
        """Whether a checkout by this method can be closed."""
        found = self.method(method)
        return self.closes_checkout if found is None or found.closes is None else found.closes

    def method(self, name: str | None) -> Method | None:
        """The named method, the default one without a name, None when there is no such."""
        return next((method for method in self.methods if name in (None, method.name)), None)


def offered(sheet: Capabilities, currency: str, options: Mapping[str, object]) -> list[Method]:
    """The methods of a sheet in this currency, narrowed by the account's option `methods`; the default first."""
    only = options.get("methods")
    return [
        method
        for method in sheet.methods
        if method.currency in (None, currency) and (not isinstance(only, list) or method.name in only)
    ]


class CheckoutMode(StrEnum):
    """`HOSTED`: the provider's own page. `DIRECT`: the merchant's page with the provider's client library.

    `SAVED`: a saved method is charged; the payer sees a page only where the bank asks for it. Nobody can try another
    card, so a charge that was declined is over: `look` answers FAILED.
    """

    HOSTED = "hosted"
    DIRECT = "direct"
    SAVED = "saved"


@dataclass(frozen=True, slots=True, repr=False)
class Payer:
    """Who pays, as far as the provider wants to know. Personal: never logged, never in a workflow history."""

    id: str | None = None
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    document_type: str | None = None
    """CC, CE, NIT, PP, … as Colombian providers name them."""
    document: str | None = None
    ip: str | None = None


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    """Open a checkout.

    `reference` is ours at the provider and the idempotency value: the same on every try. It is the payment's id for
    the payment's first attempt, and another UUID for each further one.
    """

    reference: UUID
    workspace_id: UUID
    order_id: str
    amount: Money
    description: str
    mode: CheckoutMode
    expires_at: datetime
    created_at: datetime
    success_url: str | None = None
    cancel_url: str | None = None
    callback_url: str | None = None
    """Where the provider reports, for providers that are told with each request."""
    payer: Payer = field(default_factory=Payer, repr=False)
    language: str = "en"
    vat: Money | None = None
    """The part of `amount` that is value added tax, where the workspace has a rate."""
    method: str | None = None
    """One of the capability sheet's methods; None for the default."""
    method_fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    salt: int = 0
    """Raised when a code that we made ourselves was taken already; providers that make the ids ignore it."""
    save_method: bool = False
    """Save what the payer pays with, for later charges; `look` then tells it as `saved_method`."""
    customer: str | None = field(default=None, repr=False)
    """The provider's id of the payer, where `capabilities.customers` says that methods belong to one."""


@dataclass(frozen=True, slots=True)
class FormPost:
    """A page of the provider that is reached only by posting a form: our own page posts it for the payer."""

    action: str
    fields: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class CashInstructions:
    """What the payer says at the counter. Not secret: it is printed on the voucher."""

    network: str
    code: str
    agreement: str | None = None
    expires_at: datetime | None = None
    voucher_url: str | None = None


@dataclass(frozen=True, slots=True)
class OpenedCheckout:
    """The provider's answer: an address, a form, cash instructions, an app, or (direct mode) a client secret.

    Both secrets are stored sealed and never enter a history. `client_secret` is for the payer's browser;
    `session_secret` is between the provider and us and is shown to nobody.
    """

    session_id: str
    url: str | None
    client_secret: str | None = field(default=None, repr=False)
    session_secret: str | None = field(default=None, repr=False)
    form: FormPost | None = None
    cash: CashInstructions | None = None
    approve_in: str | None = None
    """The app in which the payer approves, where there is no address at all."""


@dataclass(frozen=True, slots=True)
class CheckoutRef:
    """How an attempt is found again at the provider; `reference` as in CheckoutRequest."""

    reference: UUID
    session_id: str | None
    mode: CheckoutMode
    created_at: datetime
    session_secret: str | None = field(default=None, repr=False)
    method: str | None = None
    amount: Money | None = None
    expires_at: datetime | None = None
    transaction_id: str | None = None
    """The provider's transaction, where an event or an earlier look has named it."""
    token: str | None = field(default=None, repr=False)
    """The saved method of a charge that was not answered, for providers that find a charge by it."""


@dataclass(frozen=True, slots=True)
class SavedMethod:
    """A tokenised method as the provider has it. `token` charges it: secret, stored sealed, in no history.

    `fingerprint` is the same for the same card at this account, where the provider tells; it is kept as a keyed hash.
    """

    token: str = field(repr=False)
    kind: str = "card"
    customer: str | None = field(default=None, repr=False)
    """The provider's id of the customer that it belongs to."""
    brand: str | None = None
    last4: str | None = None
    exp_month: int | None = None
    exp_year: int | None = None
    fingerprint: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SetupRequest:
    """Open a page where a customer enters a method to be saved; no money is taken.

    `reference` is the set-up's id: ours at the provider and the idempotency value, the same on every try.
    """

    reference: UUID
    workspace_id: UUID
    currency: str
    created_at: datetime
    expires_at: datetime
    description: str
    customer: str | None = field(default=None, repr=False)
    success_url: str | None = None
    cancel_url: str | None = None
    callback_url: str | None = None
    payer: Payer = field(default_factory=Payer, repr=False)
    language: str = "en"


@dataclass(frozen=True, slots=True)
class SetupRef:
    """How a set-up is found again at the provider."""

    reference: UUID
    session_id: str | None
    created_at: datetime
    session_secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ProviderSetup:
    """What the provider says about a set-up. `method` is set when, and only when, it succeeded.

    UNKNOWN: the provider does not know our reference. An attempt that failed leaves the page open: PENDING with a code.
    """

    status: SetupStatus
    session_id: str | None = None
    method: SavedMethod | None = None
    failure_code: str | None = None


@dataclass(frozen=True, slots=True)
class ChargeRequest:
    """Charge a saved method. `reference` is the attempt's: ours at the provider and the idempotency value.

    `off_session`: the payer is not there. Otherwise, and where the bank insists, the payer is led to
    `Charged.action_url` and comes back to `return_url`.
    """

    reference: UUID
    workspace_id: UUID
    order_id: str
    amount: Money
    description: str
    token: str = field(repr=False)
    customer: str | None = field(repr=False)
    created_at: datetime
    expires_at: datetime
    off_session: bool = True
    return_url: str | None = None
    callback_url: str | None = None
    payer: Payer = field(default_factory=Payer, repr=False)
    vat: Money | None = None
    language: str = "en"
    asked_before: bool = True
    """Whether an earlier request for this reference may have reached the provider. False: certainly none did."""
    kind: str = "card"
    """Of the saved method, as the provider names it (`SavedMethod.kind`)."""
    exp_month: int | None = None
    exp_year: int | None = None
    """Of a card, as it is on record, for providers that want it beside the token."""


@dataclass(frozen=True, slots=True)
class Charged:
    """The provider's answer to a charge: PAID, PENDING (it is decided later) or REQUIRES_ACTION.

    `session_id` is what `look` finds it by. `action_url` is where the payer confirms to the bank; `client_secret` does
    the same in the merchant's page, where there is no address.
    """

    session_id: str
    status: PaymentStatus
    transaction_id: str | None = None
    action_url: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    session_secret: str | None = field(default=None, repr=False)


class RefundStatus(StrEnum):
    """A refund at the provider. One that has succeeded may still fail later, when the payer's bank sends it back."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ListedRefund:
    """One refund of a payment as the provider lists it, whoever made it.

    `reference` is our refund's id, where the provider shows that it is ours. `unmarked`: it does not show whose it is,
    so that it may be ours all the same. `transaction_id` is the capture that it gives back, where that is told.
    """

    provider_refund_id: str
    amount: Money
    status: RefundStatus
    at: datetime | None = None
    reference: UUID | None = None
    unmarked: bool = False
    transaction_id: str | None = None
    failure_code: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderPayment:
    """What the provider says now. `captured` is set when, and only when, money arrived.

    Of what went back, None is *not told*: nothing follows from it. Zero, and an empty list, are *nothing*.
    """

    status: PaymentStatus
    session_id: str | None = None
    transaction_id: str | None = None
    captured: Money | None = None
    captured_at: datetime | None = None
    """When the money came, where the provider tells it; a day alone is noon of it. None: it does not tell."""
    refunded: Money | None = None
    """The sum of what has gone back, whoever sent it."""
    refunds: Sequence[ListedRefund] | None = None
    """The refunds one by one, where the sheet says `lists_refunds` and this answer shows them."""
    disputed: bool | None = None
    """Whether the payer's bank has ever disputed it, as far as this answer tells."""
    other_ids: tuple[str, ...] = ()
    """What else the provider calls the payment by in its events, such as a charge; no secrets."""
    method: str | None = None
    card_brand: str | None = None
    card_last4: str | None = None
    card_fingerprint: str | None = None
    """The same for the same card in one account, where the provider tells; stored as a keyed hash only."""
    failure_code: str | None = None
    saved_method: SavedMethod | None = field(default=None, repr=False)
    """What was saved during the payment, where that was asked for and money arrived."""
    session_secret: str | None = field(default=None, repr=False)
    """Of a charge that was found again: what the provider's later answers need, as in `Charged`."""


class EventKind(StrEnum):
    """What a callback claims, in our words. A claim is a reason to look, not a fact."""

    CAPTURED = "captured"
    PROCESSING = "processing"
    ACTION_REQUIRED = "action_required"
    ATTEMPT_FAILED = "attempt_failed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELED = "canceled"
    REFUND = "refund"
    DISPUTE = "dispute"
    SETUP = "setup"
    """About a set-up; `reference` is the set-up's id."""
    SUBSCRIPTION = "subscription"
    """About a subscription that the provider manages, or an invoice of one."""
    METHOD = "method"
    """A saved method, or the customer that it belongs to, was changed at the provider."""
    RISK = "risk"
    """The provider, or the payer's bank through it, warns about a captured payment."""
    PAYOUT = "payout"
    """The provider pays the merchant out; `payout` is all that follows."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """A verified callback. `reference` is ours inside it, where the event carries one.

    `amount` is what the event claims, for the record only, unless the provider has no status call. `proof` is the
    session secret that the callback showed, where that is all that authenticates it: the caller compares it with the
    stored one, in constant time, before anything is believed.
    """

    event_id: str
    type: str
    kind: EventKind
    reference: UUID | None = None
    session_id: str | None = None
    transaction_id: str | None = None
    amount: Money | None = None
    occurred_at: datetime | None = None
    proof: str | None = field(default=None, repr=False)
    method_token: str | None = field(default=None, repr=False)
    """Of a METHOD event: the method that it is about; None when it is about all of the customer's."""
    customer: str | None = field(default=None, repr=False)
    """Of a METHOD event: the provider's id of the customer."""
    subscription_id: str | None = None
    """Of a SUBSCRIPTION event: the provider's id of it."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What else in the body has power over money; it is not kept."""
    also_named: tuple[str, ...] = field(default=(), repr=False)
    """Further ids of the provider's in it: a charge, an invoice. None of them is a secret."""
    mandate: str | None = None
    """Of a METHOD event: the provider's id of the payer's permission to debit the method, where it is about that."""
    payout: PayoutSnapshot | None = None
    """Of a PAYOUT event: what it tells. It is kept as told; no money of ours moves by it."""
    ignored: str | None = None
    """Why nothing may follow from it although it is authentic, in a few words of ours: it is kept, and is nobody's."""
    unsigned: bool = False
    """Nothing authenticates it: it is taken only about a payment of ours, and only as a reason to query."""
    unreadable: str | None = None
    """What we act upon and could not be read, in a few words of ours: the event is counted, and nothing follows."""

    @property
    def ids(self) -> tuple[str, ...]:
        """All that the provider calls its subject by, without secrets."""
        named = (self.session_id, self.transaction_id, self.subscription_id, self.customer, *self.also_named)
        return tuple(dict.fromkeys(one for one in named if one is not None))


@dataclass(frozen=True, slots=True)
class MadeRefund:
    """A refund of the account that the provider has made: a look-up that would show another one shows this one too."""

    transaction_id: str
    provider_refund_id: str


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """Give money back. The idempotency value is the refund's id.

    `refunded_before` is the sum of the refunds that are known to have succeeded: a provider without references for
    refunds is asked for its own sum, and a difference of exactly this amount means that an earlier try acted.
    `earlier` are refunds of the same account, the newest first, where an earlier try is looked up: a provider that
    shows none of them would not show this one either.
    """

    refund_id: UUID
    transaction_id: str
    amount: Money
    payment: CheckoutRef
    captured: Money
    refunded_before: Money
    reason: str | None = None
    earlier: Sequence[MadeRefund] = ()
    asked_at: datetime | None = None
    """When the provider was last asked to make it; None: never, or that request was refused before it acted.

    A refusal of a repeat says nothing of the request before it, where the provider does not show at once what it made.
    """


@dataclass(frozen=True, slots=True)
class ProviderRefund:
    """The provider's answer to a refund.

    `provider_refund_id` is None while the provider has accepted it and given it no id yet: it is then found by our
    reference, and not finding it is no reason to ask for it again.
    """

    provider_refund_id: str | None
    status: RefundStatus
    failure_code: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderDispute:
    """A dispute as the provider has it now. `amount` may exceed what was captured (exchange rates)."""

    provider_dispute_id: str
    state: DisputeState
    amount: Money
    reason: str | None = None
    evidence_due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProviderRiskAlert:
    """A warning about a captured payment as the provider has it now.

    `actionable`: a refund may still prevent a dispute; None where the provider does not say.
    """

    alert_id: str
    kind: RiskAlertKind
    reason: str | None
    is_open: bool = True
    closed_reason: str | None = None
    actionable: bool | None = None
    raised_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Bank:
    """A bank that the payer chooses before being sent to it; `code` goes into `method_fields`."""

    code: str
    name: str


@dataclass(frozen=True, slots=True)
class SettlementRow:
    """One row of a network's settlement file: an event or a reason, never both.

    `line` counts the file's lines from 1. `problem` is a stable code that is safe to show; it holds nothing of the row.
    The event's id is the one that the network's callback about the same money has.
    """

    line: int
    event: ProviderEvent | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Callback:
    """A callback as it came in. Header names are lower case; `path_token` is the last part of the account's address."""

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    received_at: datetime
    path_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AccountCheck:
    """The connection test's answer: whose account this is and whether it can take money."""

    account_name: str
    live: bool
    detail: str = ""
    differences: tuple[str, ...] = ()
    """Where the provider tells how it sends events: what differs from what this service expects, a sentence each."""


class Provider(Protocol):
    """One account at one provider. Built once an account, closed with `aclose`; safe for concurrent use.

    Every call raises ProviderError subclasses only; none retries by itself (the workflow's policies do).
    """

    name: str
    capabilities: Capabilities

    async def open_checkout(self, request: CheckoutRequest) -> OpenedCheckout:
        """Create the checkout, or find again the one that an earlier try created."""
        ...

    async def look(self, ref: CheckoutRef) -> ProviderPayment:
        """What the provider says about this payment now. Status UNKNOWN when it does not know our reference."""
        ...

    async def close_checkout(self, ref: CheckoutRef) -> ProviderPayment:
        """Make sure that the payer can no longer pay; a repeat is harmless. Returns the state after it."""
        ...

    async def refund(self, request: RefundRequest) -> ProviderRefund:
        """Refund part or all of a captured payment; a repeat with the same id refunds once."""
        ...

    async def check_account(self) -> AccountCheck:
        """Connection test with the stored credentials."""
        ...

    async def look_refund(self, request: RefundRequest, provider_refund_id: str | None) -> ProviderRefund | None:
        """What became of a refund. None: the provider knows of none, which is not a failure while it is young."""
        ...

    def verify_webhook(self, callback: Callback) -> ProviderEvent:
        """Authenticate and read a callback. Raises WebhookRejected, nothing else."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


@runtime_checkable
class ListsBanks(Protocol):
    """A provider whose payers choose a bank first."""

    async def banks(self) -> Sequence[Bank]:
        """The banks that can be chosen today. Raises ProviderError subclasses."""
        ...


@runtime_checkable
class KnowsDisputes(Protocol):
    """A provider that can be asked for the disputes of a transaction."""

    async def disputes_of(self, transaction_id: str) -> Sequence[ProviderDispute]:
        """All of them, as they stand now. Raises ProviderError subclasses."""
        ...


@runtime_checkable
class KnowsRiskAlerts(Protocol):
    """A provider that can be asked for the warnings about a transaction."""

    async def risk_alerts_of(self, transaction_id: str, named: Sequence[str]) -> Sequence[ProviderRiskAlert]:
        """All of them as they stand now; `named` are ids in events, for those that are found by their own id alone.

        Raises ProviderError subclasses.
        """
        ...


@runtime_checkable
class ShowsDisputes(Protocol):
    """A provider that shows disputes in the payment itself, and is asked for them by our reference."""

    async def disputes_by_reference(
        self, reference: UUID, transaction_id: str, known: Sequence[str]
    ) -> Sequence[ProviderDispute]:
        """All of them, as they stand now; of those `known` by their id also what is not shown any more.

        Raises ProviderError subclasses.
        """
        ...


@dataclass(frozen=True, slots=True)
class ProviderInvoice:
    """An invoice of a subscription that the provider manages. `transaction_id` is the capture that paid it, if any."""

    invoice_id: str
    status: InvoiceStatus
    total: Money
    period_start: datetime
    period_end: datetime
    created_at: datetime
    attempts: int = 0
    next_attempt_at: datetime | None = None
    paid_at: datetime | None = None
    transaction_id: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderSubscription:
    """A subscription as the provider has it now; `invoices` oldest first. `customer_id` is ours, where it is known."""

    subscription_id: str
    status: SubscriptionStatus
    customer_id: str
    current_period_start: datetime
    current_period_end: datetime
    description: str
    quantity: int = 1
    cancel_at_period_end: bool = False
    cancelled_at: datetime | None = None
    ended_at: datetime | None = None
    trial_end: datetime | None = None
    invoices: Sequence[ProviderInvoice] = ()


@runtime_checkable
class FollowsSubscriptions(Protocol):
    """A provider that manages subscriptions by itself and can be asked about them."""

    async def look_subscription(self, subscription_id: str) -> ProviderSubscription | None:
        """How it stands now, with its latest invoices; None when there is no such. Raises ProviderError subclasses."""
        ...


CUSTOMER_GONE = "customer_gone"
"""The code of ProviderRejected where a request names a customer that the provider no longer has."""


@runtime_checkable
class KeepsCustomers(Protocol):
    """A provider at which saved methods belong to a customer. One that it no longer has is CUSTOMER_GONE."""

    async def create_customer(self, reference: UUID, payer: Payer) -> str:
        """The provider's id of a new customer; a quick repeat finds the first one. Raises ProviderError subclasses.

        One that nobody uses (a crash before its id was stored) costs nothing and holds nothing.
        """
        ...


@runtime_checkable
class SavesMethods(Protocol):
    """A provider with a page that saves a method without taking money. Calls raise ProviderError subclasses."""

    async def open_setup(self, request: SetupRequest) -> OpenedCheckout:
        """Open the page, or find again the one that an earlier try opened."""
        ...

    async def look_setup(self, ref: SetupRef) -> ProviderSetup:
        """What the provider says now, and the method once it is saved."""
        ...

    async def close_setup(self, ref: SetupRef) -> ProviderSetup:
        """Make sure that nothing can be entered any more, and the state after it; a repeat is harmless."""
        ...

    async def look_method(self, token: str) -> SavedMethod | None:
        """A saved method as it is now; None when it is gone, or no longer anybody's."""
        ...

    async def detach(self, token: str) -> None:
        """Make sure that the method cannot be charged any more; a repeat is harmless."""
        ...


@runtime_checkable
class KnowsMandates(Protocol):
    """A provider that tells whether the payer still allows a saved method to be debited."""

    async def is_revoked(self, token: str, mandate: str) -> bool:
        """Whether a mandate of this method allows no further charge. Raises ProviderError subclasses."""
        ...


@runtime_checkable
class ImportsTokens(Protocol):
    """A provider whose own library makes tokens in the merchant's page."""

    def import_token(self, given: SavedMethod) -> SavedMethod:
        """The method as it is kept. Raises ProviderRejected for what is no token, a card number above all."""
        ...


@runtime_checkable
class ChargesSaved(Protocol):
    """A provider that charges saved methods."""

    async def charge(self, request: ChargeRequest) -> Charged:
        """Charge once for a reference. Raises ProviderDeclined with the decline's code, other ProviderErrors.

        Where the provider has idempotency keys a repeat finds the first charge, also past the keys' lifetime. Where it
        has none the caller looks the reference up (`look`, mode SAVED) before any repeat.
        """
        ...


@runtime_checkable
class Acknowledges(Protocol):
    """A provider that repeats its callback until it is acknowledged by a call."""

    async def acknowledge(self, ref: CheckoutRef, transaction_id: str) -> None:
        """Tell the provider that we know of the money; a repeat is harmless. Raises ProviderError subclasses."""
        ...


@runtime_checkable
class ReadsSettlementFiles(Protocol):
    """A provider that also reports by files, which an operator uploads."""

    def read_settlement_file(self, content: bytes) -> Sequence[SettlementRow]:
        """Read a whole file, row by row in its order. Never raises: what cannot be read is a row with a problem."""
        ...


@dataclass(frozen=True, slots=True)
class AccountConfig:
    """A provider account as an adapter is built from it. `credentials` are secret, `options` are not."""

    account_id: UUID
    credentials: Mapping[str, str] = field(repr=False)
    options: Mapping[str, object] = field(default_factory=dict)
    timeout_seconds: float = 10.0
    webhook_tolerance_seconds: int = 300
    webhook_future_tolerance_seconds: int = 60
    network: Network = field(default_factory=Network, repr=False)

    def credential(self, name: str) -> str:
        """A credential that can stand in a header. Raises ProviderMisconfigured `credential_missing`."""
        value = self.credentials.get(name, "").strip()
        if not value or not value.isascii() or not value.isprintable():
            raise ProviderMisconfigured("credential_missing", name)
        return value


class ProviderClass(Protocol):
    """What a provider's class offers before an account exists."""

    @property
    def capabilities(self) -> Capabilities:
        """The capability sheet."""
        ...

    @property
    def required_credentials(self) -> tuple[str, ...]:
        """Keys that `AccountConfig.credentials` must hold."""
        ...

    @property
    def options(self) -> frozenset[str]:
        """Keys that `AccountConfig.options` may hold. A misspelt one would silently leave the default: live, say."""
        ...

    def __call__(self, config: AccountConfig) -> Provider:
        """Build the adapter of one account. Raises ProviderMisconfigured when a credential is missing."""
        ...
