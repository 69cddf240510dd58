"""What one agreement (convenio) with Efecty says, read from an account's credentials and options.

Efecty publishes no interface: headers, field names, file layout, limits and check digit come with each contract. Every
one of them is therefore an option here; the defaults are ours, or figures that an aggregator states.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Final

from domain.money import Money, MoneyError
from providers.base import AccountConfig, EventKind, ProviderMisconfigured
from providers.efecty.codes import MAX_CODE_DIGITS, MIN_OWN_DIGITS, CheckDigit, CodeRule
from providers.reading import split_secrets

CURRENCY: Final = "COP"
SIGNATURE_HEADER: Final = "x-efecty-signature"
TIMESTAMP_HEADER: Final = "x-efecty-timestamp"

FIELDS: Final = ("agreement", "reference", "amount", "paid_at", "transaction_id", "status", "currency")
"""What a notification or a row may say; `reference` is our code. The last three columns of a file may be missing."""
REQUIRED_FIELDS: Final = ("agreement", "reference", "amount", "transaction_id")

STATUSES: Final[Mapping[str, EventKind]] = MappingProxyType(
    {
        "paid": EventKind.CAPTURED,
        "approved": EventKind.CAPTURED,
        "pending": EventKind.PROCESSING,
        "expired": EventKind.EXPIRED,
        "cancelled": EventKind.CANCELED,
        "reversed": EventKind.DISPUTE,
    }
)
"""Words of the wire, in small letters. Whether Efecty reverses a confirmed payment is UNCONFIRMED."""

HMAC, PAYVALIDA = "hmac", "payvalida"
_HEADER = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
_OFFSET = re.compile(r"([+-])(0[0-9]|1[0-4]):([0-5][0-9])")
_ADDRESS = re.compile(r"https?://[!-~]{1,1000}")


@dataclass(frozen=True, slots=True)
class FileLayout:
    """How a settlement file is written. `columns` maps our names (FIELDS) to the file's."""

    delimiter: str = ";"
    decimal: str = "."
    thousands: str = ""
    date_format: str = ""
    """As of `strptime`; '' for ISO 8601."""
    columns: Mapping[str, str] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Agreement:
    """One agreement. Amounts in COP; naive times of the wire are of `zone`."""

    number: str
    secrets: tuple[str, ...] = field(repr=False)
    code: CodeRule
    minimum: Money
    maximum: Money
    whole_pesos: bool
    max_lifetime: timedelta
    grace: timedelta
    scheme: str
    signature_header: str
    timestamp_header: str
    fields: Mapping[str, str]
    statuses: Mapping[str, EventKind]
    file: FileLayout
    zone: timezone
    live: bool
    voucher_url: str | None

    @property
    def is_numeric(self) -> bool:
        """Whether the number can be typed at a till."""
        return self.number.isascii() and self.number.isdigit()


def agreement_of(config: AccountConfig) -> Agreement:
    """The agreement of an account. Raises ProviderMisconfigured, which names the credential or option, no value."""
    options = _Options(config.options)
    signature_header = options.header("signature_header", SIGNATURE_HEADER)
    timestamp_header = options.header("timestamp_header", TIMESTAMP_HEADER)
    if signature_header == timestamp_header:
        raise _invalid("timestamp_header")
    return Agreement(
        number=_credential(config, "agreement"),
        secrets=split_secrets(_credential(config, "callback_secret")),
        code=_code_rule(options),
        minimum=(minimum := options.pesos("minimum_amount", "20000")),
        maximum=options.pesos("maximum_amount", "6000000", at_least=minimum),
        whole_pesos=options.flag("whole_pesos", default=True),
        max_lifetime=timedelta(days=options.number("max_days", 7, 1, 60)),
        grace=timedelta(minutes=options.number("grace_minutes", 60, 0, 7 * 24 * 60)),
        scheme=options.choice("callback_scheme", HMAC, PAYVALIDA),
        signature_header=signature_header,
        timestamp_header=timestamp_header,
        fields=options.names("callback_fields"),
        statuses=options.statuses(),
        file=_file_layout(options),
        zone=options.offset("utc_offset", "-05:00"),
        live=options.flag("live", default=True),
        voucher_url=options.address("voucher_url"),
    )


def _credential(config: AccountConfig, name: str) -> str:
    value = config.credential(name)
    if not value.strip(", "):
        raise ProviderMisconfigured("credential_missing", name)
    return value


def _code_rule(options: _Options) -> CodeRule:
    length, prefix = options.number("code_length", 12, MIN_OWN_DIGITS + 1, MAX_CODE_DIGITS), options.text("code_prefix")
    rule = CodeRule(length, prefix, CheckDigit(options.choice("check_digit", *CheckDigit)))
    digits = not prefix or (prefix.isascii() and prefix.isdigit() and not prefix.startswith("0"))
    if not digits or rule.own_digits < MIN_OWN_DIGITS:
        raise _invalid("code_prefix")
    return rule


def _file_layout(options: _Options) -> FileLayout:
    layout = FileLayout(
        delimiter=options.choice("file_delimiter", ";", ",", "\t", "|"),
        decimal=options.choice("file_decimal", ".", ","),
        thousands=options.choice("file_thousands", "", ".", ",", " ", "'"),
        date_format=options.date_format("file_date_format"),
        columns=options.names("file_columns"),
        ignored=frozenset(options.texts("file_ignored_columns")),
    )
    if layout.thousands == layout.decimal:
        raise _invalid("file_thousands")
    return layout


def _invalid(name: str) -> ProviderMisconfigured:
    return ProviderMisconfigured("option_invalid", name)


class _Options:
    """Typed reading of an account's options; a missing one has its default, a wrong one is the operator's business."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def text(self, name: str, default: str = "") -> str:
        value = self._values.get(name, default)
        if not isinstance(value, str) or (value and not _NAME.fullmatch(value)):
            raise _invalid(name)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._values.get(name, ())
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise _invalid(name)
        return tuple(value)

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._values.get(name, default)
        if not isinstance(value, bool):
            raise _invalid(name)
        return value

    def number(self, name: str, default: int, lowest: int, highest: int) -> int:
        value = self._values.get(name, default)
        if type(value) is not int or not lowest <= value <= highest:
            raise _invalid(name)
        return value

    def choice(self, name: str, default: str, *others: str) -> str:
        value = self._values.get(name, default)
        if not isinstance(value, str) or value not in (default, *others):
            raise _invalid(name)
        return value

    def pesos(self, name: str, default: str, *, at_least: Money | None = None) -> Money:
        """Major units, as a decimal string or an integer."""
        value = self._values.get(name, default)
        try:
            amount = Money.parse(
                str(value) if type(value) is int else value if isinstance(value, str) else "", CURRENCY
            )
        except MoneyError:
            raise _invalid(name) from None
        if amount.minor <= 0 or (at_least is not None and amount < at_least):
            raise _invalid(name)
        return amount

    def header(self, name: str, default: str) -> str:
        value = self.text(name, default).lower()
        if not _HEADER.fullmatch(value):
            raise _invalid(name)
        return value

    def names(self, name: str) -> Mapping[str, str]:
        """Our names to those of the wire, each used once."""
        value = self._values.get(name, {})
        if not isinstance(value, Mapping) or not value.keys() <= set(FIELDS):
            raise _invalid(name)
        if not all(isinstance(other, str) and _NAME.fullmatch(other) for other in value.values()):
            raise _invalid(name)
        names = {own: str(value.get(own, own)) for own in FIELDS}
        if len(set(names.values())) != len(names):
            raise _invalid(name)
        return MappingProxyType(names)

    def statuses(self) -> Mapping[str, EventKind]:
        """The wire's words to our kinds; what is given is added to STATUSES."""
        value = self._values.get("callback_statuses", {})
        if not isinstance(value, Mapping):
            raise _invalid("callback_statuses")
        try:
            own = {str(word).strip().casefold(): EventKind(kind) for word, kind in value.items()}
        except ValueError:
            raise _invalid("callback_statuses") from None
        return MappingProxyType({**STATUSES, **own})

    def offset(self, name: str, default: str) -> timezone:
        found = _OFFSET.fullmatch(self.text(name, default))
        if found is None:
            raise _invalid(name)
        distance = timedelta(hours=int(found[2]), minutes=int(found[3]))
        return timezone(-distance if found[1] == "-" else distance)

    def date_format(self, name: str) -> str:
        """A format of `strptime` that can read what it has written; '' for none."""
        value = self.text(name)
        example = datetime(2031, 4, 25, 16, 17, 18)  # noqa: DTZ001  (only its numbers matter)
        try:
            if value:
                datetime.strptime(example.strftime(value), value)  # noqa: DTZ007
        except (ValueError, re.error):
            raise _invalid(name) from None
        return value

    def address(self, name: str) -> str | None:
        """An address that may hold {agreement}, {code}, {amount} and {expires}."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
            raise _invalid(name)
        return value
