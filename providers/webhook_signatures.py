"""What every provider's webhook verification shares: strict reading of bodies, and tools that need no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from providers.base import Rejection, WebhookRejected
from providers.reading import read_json


class SignatureVerdict(NamedTuple):
    """Whether a callback is authentic, why not, and the string that was signed with the secret masked in it."""

    valid: bool
    why: str
    signed_string_masked: str


@dataclass(frozen=True, slots=True)
class SignatureOptions:
    """Choices of a merchant's account, for providers that offer several ways to sign; None for the default one."""

    algorithm: str | None = None
    hmac_key: str | None = field(default=None, repr=False)


DEFAULT_OPTIONS = SignatureOptions()


class CannotSign(ValueError):
    """A field is missing, unknown or unreadable, or the algorithm is none of this provider's. The text says which."""


class RequestSigner(Protocol):
    """Signs one kind of request: from its fields, as text, to the digest alone."""

    required: tuple[str, ...]
    optional: tuple[str, ...]

    def __call__(self, fields: Mapping[str, str], secret: str, options: SignatureOptions) -> str:
        """The digest. Raises CannotSign."""
        ...


class WebhookTools(Protocol):
    """Sign and check by hand, without an account or a database: what the command line offers."""

    request_signers: Mapping[str, RequestSigner]
    """By kind: `request`, `integrity`, … Empty where the provider's requests are not signed."""

    def explain_signature(
        self,
        headers: Mapping[str, str],
        body: bytes,
        secret: str,
        now: datetime,
        options: SignatureOptions = DEFAULT_OPTIONS,
    ) -> SignatureVerdict:
        """Check a callback and say why. Header names are lower case. Never raises for anything in the callback."""
        ...

    def sign_webhook(
        self, secret: str, body: bytes, timestamp: int, options: SignatureOptions = DEFAULT_OPTIONS
    ) -> Mapping[str, str]:
        """The headers that make this body a callback of the provider. `timestamp` in Unix seconds.

        Raises CannotSign where the provider's signature is inside the body, or where it has none.
        """
        ...


def read_json_object(body: bytes) -> dict[str, Any]:
    """Read a callback's body as a JSON object, as `reading.read_json` does. Raises WebhookRejected (malformed)."""
    try:
        value = read_json(body)
    except ValueError:
        raise WebhookRejected(Rejection.MALFORMED, "not a readable JSON document") from None
    if not isinstance(value, dict):
        raise WebhookRejected(Rejection.MALFORMED, "not a JSON object")
    return value


def mask(text: str, secret: str) -> str:
    """The text without the secret."""
    return text.replace(secret, "***") if secret else text
