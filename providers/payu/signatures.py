"""PayU's three signatures, and what the command line offers for them.

    request        apiKey~merchantId~reference~value~currency[~paymentMethods][~iin][~pseBanks]
    confirmation   apiKey~merchant_id~reference_sale~new_value~currency~state_pol
    response page  apiKey~merchantId~referenceCode~new_value~currency~transactionState

The value of a request is the text that is sent; the other two have a rounding of their own each (see amounts.py). The
digest is MD5 unless the account has chosen another. With HMAC-SHA256 the API key stays inside the signed text, and the
account's HMAC key, or the API key where it has none, is the key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from providers.base import Rejection, WebhookRejected
from providers.payu.amounts import confirmation_value, response_value
from providers.payu.bodies import Fields, read_fields, required, text
from providers.webhook_signatures import (
    DEFAULT_OPTIONS,
    CannotSign,
    RequestSigner,
    SignatureOptions,
    SignatureVerdict,
    WebhookTools,
    mask,
)

_HEX = re.compile(r"[0-9a-fA-F]{1,128}", re.ASCII)


class Algorithm(StrEnum):
    """How an account signs; chosen in PayU's panel."""

    MD5 = "md5"
    SHA1 = "sha1"
    SHA256 = "sha256"
    HMAC_SHA256 = "hmac-sha256"


NAME_IN_FORM: Mapping[Algorithm, str] = MappingProxyType(
    {
        Algorithm.MD5: "MD5",
        Algorithm.SHA1: "SHA",
        Algorithm.SHA256: "SHA256",
        Algorithm.HMAC_SHA256: "HMAC-SHA256",
    }
)
"""`algorithmSignature` of the payment form."""


@dataclass(frozen=True, slots=True)
class Signing:
    """The secrets and the algorithm of one account."""

    api_key: str = field(repr=False)
    algorithm: Algorithm = Algorithm.MD5
    hmac_key: str | None = field(default=None, repr=False)

    def digest(self, *parts: str) -> str:
        """The hex digest of the API key and these parts, joined by `~`."""
        signed = "~".join((self.api_key, *parts)).encode()
        match self.algorithm:
            case Algorithm.MD5:
                return hashlib.md5(signed, usedforsecurity=False).hexdigest()
            case Algorithm.SHA1:
                return hashlib.sha1(signed, usedforsecurity=False).hexdigest()
            case Algorithm.SHA256:
                return hashlib.sha256(signed).hexdigest()
            case Algorithm.HMAC_SHA256:
                return hmac.new((self.hmac_key or self.api_key).encode(), signed, hashlib.sha256).hexdigest()


def algorithm_of(name: str | None) -> Algorithm:
    """The algorithm by a name such as `SHA-256` or `hmac_sha256`; MD5 without one. Raises ValueError."""
    if name is None:
        return Algorithm.MD5
    plain = re.sub(r"[-_ ]", "", name.lower())
    if plain == "sha":
        return Algorithm.SHA1
    for algorithm in Algorithm:
        if plain == algorithm.value.replace("-", ""):
            return algorithm
    raise ValueError(f"no algorithm {name[:20]!r}; known: {', '.join(Algorithm)}")


def signed_parts(fields: Fields) -> tuple[str, ...]:
    """What a confirmation's signature covers, without the API key. Raises WebhookRejected (malformed)."""
    try:
        value = confirmation_value(required(fields, "value"))
    except ValueError:
        raise WebhookRejected(Rejection.MALFORMED, "value is no amount") from None
    merchant_id, reference = required(fields, "merchant_id"), required(fields, "reference_sale")
    return merchant_id, reference, value, required(fields, "currency"), required(fields, "state_pol")


def check_sign(fields: Fields, signing: Signing) -> None:
    """Compare `sign` with ours, in constant time and without regard to case. Raises WebhookRejected."""
    sign = text(fields, "sign")
    if sign is None or not _HEX.fullmatch(sign):
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "no readable sign")
    if not hmac.compare_digest(sign.lower(), signing.digest(*signed_parts(fields))):
        raise WebhookRejected(Rejection.BAD_SIGNATURE, f"the sign does not fit ({signing.algorithm})")


def explain_signature(
    headers: Mapping[str, str],  # noqa: ARG001  (PayU signs inside the body)
    body: bytes,
    secret: str,
    now: datetime,  # noqa: ARG001  (nothing in a confirmation grows old)
    options: SignatureOptions = DEFAULT_OPTIONS,
) -> SignatureVerdict:
    """Check a confirmation by hand, form or JSON. `secret` is the API key. Never raises."""
    signed = ""
    try:
        signing = _signing(secret, options)
        fields = read_fields(body)
        signed = "~".join((secret, *signed_parts(fields)))
        for hidden in filter(None, (options.hmac_key, secret)):
            signed = mask(signed, hidden)
        check_sign(fields, signing)
    except (CannotSign, WebhookRejected) as refused:
        return SignatureVerdict(valid=False, why=str(refused), signed_string_masked=signed)
    return SignatureVerdict(valid=True, why=f"the sign is good ({signing.algorithm})", signed_string_masked=signed)


@dataclass(slots=True)
class Signer:
    """Signs one of the three kinds by hand: fields as text to the hex digest alone."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    value_as: Callable[[str], str] = str

    def __call__(self, fields: Mapping[str, str], secret: str, options: SignatureOptions = DEFAULT_OPTIONS) -> str:
        """The digest; optional fields count, in their order, when they are given. Raises CannotSign."""
        signing = _signing(secret, options)
        if unknown := sorted(fields.keys() - {*self.required, *self.optional}):
            raise CannotSign(f"no such field: {', '.join(unknown)}")
        if missing := [name for name in self.required if not fields.get(name)]:
            raise CannotSign(f"missing: {', '.join(missing)}")
        try:
            value = self.value_as(fields["value"])
        except ValueError as error:
            raise CannotSign(f"value: {error}") from None
        named = {**fields, "value": value}
        try:
            return signing.digest(*(named[name] for name in (*self.required, *self.optional) if name in named))
        except UnicodeEncodeError:
            raise CannotSign("a field is not readable text") from None


class _PayuWebhookTools:
    """What the command line offers."""

    request_signers: Mapping[str, RequestSigner] = MappingProxyType(
        {
            "request": Signer(
                ("merchant_id", "reference", "value", "currency"), ("payment_methods", "iin", "pse_banks")
            ),
            "confirmation": Signer(
                ("merchant_id", "reference", "value", "currency", "state"), value_as=confirmation_value
            ),
            "response": Signer(("merchant_id", "reference", "value", "currency", "state"), value_as=response_value),
        }
    )

    def explain_signature(
        self,
        headers: Mapping[str, str],
        body: bytes,
        secret: str,
        now: datetime,
        options: SignatureOptions = DEFAULT_OPTIONS,
    ) -> SignatureVerdict:
        return explain_signature(headers, body, secret, now, options)

    def sign_webhook(
        self,
        secret: str,  # noqa: ARG002
        body: bytes,  # noqa: ARG002
        timestamp: int,  # noqa: ARG002
        options: SignatureOptions = DEFAULT_OPTIONS,  # noqa: ARG002
    ) -> Mapping[str, str]:
        raise CannotSign("PayU's signature is the body's own field `sign`: sign the kind `confirmation`")


WEBHOOK_TOOLS: WebhookTools = _PayuWebhookTools()


def _signing(secret: str, options: SignatureOptions) -> Signing:
    try:
        algorithm = algorithm_of(options.algorithm)
    except ValueError as error:
        raise CannotSign(str(error)) from None
    if not secret or not _encodable(secret) or not _encodable(options.hmac_key or ""):
        raise CannotSign("the secret is the account's API key")
    return Signing(secret, algorithm, options.hmac_key or None)


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
