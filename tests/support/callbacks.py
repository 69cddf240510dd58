"""Callbacks as the sandbox sent them, and what a forger makes of them. One hand a provider.

The signatures are computed here once more, from the providers' documents, so that a fault in ours is not its own proof.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4

from sandbox.payplus_wire import dumps
from tests.support.service import Shop, Till

Fields = dict[str, Any]
LONG_AGO, AHEAD = -40 * 3600, 3600
"""Seconds; older than any provider goes on sending, and further ahead than any clock."""


@dataclass(frozen=True)
class Letter:
    """A callback that the sandbox made. `event` is the sandbox's own name for it, `type` the provider's."""

    event: str
    type: str
    body: bytes
    content_type: str


async def letters_of(shop: Shop, till: Till | None = None) -> list[Letter]:
    """All that was sent, or should have been, to an account; the newest first."""
    address = (till or shop.till).hook_url
    kept = await shop.sandbox("GET", "/objects?type=letter")
    return [
        Letter(one["event"], one["type"], one["body"].encode(), one["content_type"])
        for one in kept
        if one["url"] == address
    ]


class Post(NamedTuple):
    """One callback on its way."""

    url: str
    body: bytes
    headers: Mapping[str, str]


class Refusal(NamedTuple):
    """A callback that must be refused, and the reason under which it is counted."""

    what: str
    post: Post
    reason: str


class Hand:
    """Writes callbacks of one account with its secrets, by a header over the whole body unless said otherwise."""

    secret: ClassVar[str]
    """Which credential signs."""
    told_by: ClassVar[str] = ""
    """The type of the callback that tells of captured money, where there are several."""
    has_time: ClassVar[bool] = False
    signs_every_byte: ClassVar[bool] = True

    def __init__(self, till: Till, letter: Letter) -> None:
        self.till = till
        self.letter = letter

    def read(self, body: bytes) -> Fields:
        return dict(json.loads(body, parse_float=Decimal))

    def write(self, fields: Fields) -> bytes:
        return dumps(fields).encode()

    def change(self, fields: Fields, claims: Mapping[str, str]) -> None:
        """Claim another `amount` (major units), `currency` or `reference`."""
        raise NotImplementedError

    def renew(self, fields: Fields) -> None:
        """Make it another event than the one that it was copied from."""
        raise NotImplementedError

    def sign(self, body: bytes, at: int, secret: str) -> tuple[bytes, dict[str, str]]:
        """The body and the headers that make it authentic, sent at a Unix time."""
        raise NotImplementedError

    def post(self, body: bytes, headers: Mapping[str, str] | None = None, url: str | None = None) -> Post:
        kind = {"content-type": self.letter.content_type}
        return Post(url or self.till.hook_url, body, kind | dict(headers or {}))

    def signed(self, body: bytes, *, after: int = 0, secret: str | None = None, url: str | None = None) -> Post:
        """Authentic, made so many seconds from now."""
        key = secret or self.till.credentials[self.secret]
        return self.post(*self.sign(body, int(time.time()) + after, key), url)

    def genuine(self) -> Post:
        return self.signed(self.letter.body)

    def tampered(self, **claims: str) -> Post:
        """Other claims under the signature of the genuine one."""
        body, headers = self._genuine()
        fields = self.read(body)
        self.change(fields, claims)
        return self.post(self.write(fields), headers)

    def lie(self, **claims: str) -> Post:
        """Another event with other claims, perfectly signed."""
        fields = self.read(self.letter.body)
        self.renew(fields)
        self.change(fields, claims)
        return self.signed(self.write(fields))

    def reordered(self) -> Post:
        """The same fields the other way round."""
        body, headers = self._genuine()
        return self.post(self.write(dict(reversed(self.read(body).items()))), headers)

    def truncated(self) -> Post:
        body, headers = self._genuine()
        return self.post(body[: len(body) // 2], headers)

    def _genuine(self) -> tuple[bytes, dict[str, str]]:
        return self.sign(self.letter.body, int(time.time()), self.till.credentials[self.secret])

    def refused(self, elsewhere: Till, reference: str) -> Iterator[Refusal]:
        """All that must be refused. `elsewhere` is another workspace's account, `reference` another payment of ours."""
        yield Refusal("unsigned", self.post(self.letter.body), "bad_signature")
        yield Refusal("another secret", self.signed(self.letter.body, secret="not-the-secret"), "bad_signature")
        yield Refusal("another address", self.signed(self.letter.body, url=elsewhere.hook_url), "bad_signature")
        yield Refusal("truncated", self.truncated(), "bad_signature")
        yield Refusal("truncated, signed", self.signed(self.letter.body[:-9]), "malformed_body")
        yield Refusal("reordered", self.reordered(), "bad_signature")
        yield Refusal("amount", self.tampered(amount="1.00"), "bad_signature")
        yield Refusal("currency", self.tampered(currency="USD"), "bad_signature")
        yield Refusal("reference", self.tampered(reference=reference), "bad_signature")
        if self.has_time:
            yield Refusal("old", self.signed(self.letter.body, after=LONG_AGO), "stale_timestamp")
            yield Refusal("ahead", self.signed(self.letter.body, after=AHEAD), "future_timestamp")


class StripeHand(Hand):
    secret = "webhook_secret"
    told_by = "checkout.session.completed"
    has_time = True

    def change(self, fields: Fields, claims: Mapping[str, str]) -> None:
        thing = fields["data"]["object"]
        if "amount" in claims:
            cents = int(Decimal(claims["amount"]) * 100)
            thing |= {name: cents for name in ("amount", "amount_total", "amount_received") if name in thing}
        if "currency" in claims:
            thing["currency"] = claims["currency"].lower()
        if "reference" in claims:
            thing["client_reference_id"] = thing["metadata"]["payment_id"] = claims["reference"]

    def renew(self, fields: Fields) -> None:
        fields["id"] = f"evt_{uuid4().hex}"

    def sign(self, body: bytes, at: int, secret: str) -> tuple[bytes, dict[str, str]]:
        digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        return body, {"stripe-signature": f"t={at},v1={digest}"}


class PayplusHand(Hand):
    secret = "secret_key"

    def change(self, fields: Fields, claims: Mapping[str, str]) -> None:
        if "amount" in claims:
            fields["transaction"]["amount"] = Decimal(claims["amount"])
        if "currency" in claims:
            fields["transaction"]["currency"] = claims["currency"]
        if "reference" in claims:
            fields["transaction"]["more_info"] = claims["reference"]

    def renew(self, fields: Fields) -> None:
        fields["transaction"]["number"] = uuid4().hex  # the transaction and its state are the event

    def sign(self, body: bytes, at: int, secret: str) -> tuple[bytes, dict[str, str]]:
        digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
        return body, {"hash": base64.b64encode(digest).decode(), "user-agent": "PayPlus"}


class EfectyHand(Hand):
    secret = "callback_secret"
    has_time = True

    def change(self, fields: Fields, claims: Mapping[str, str]) -> None:
        fields |= claims

    def renew(self, fields: Fields) -> None:
        fields["transaction_id"] = uuid4().hex

    def sign(self, body: bytes, at: int, secret: str) -> tuple[bytes, dict[str, str]]:
        digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        return body, {"x-efecty-timestamp": str(at), "x-efecty-signature": digest}

    def refused(self, elsewhere: Till, reference: str) -> Iterator[Refusal]:
        yield from super().refused(elsewhere, reference)
        yield Refusal("currency, signed", self.lie(currency="USD"), "malformed_body")
        yield Refusal("a code with a wrong digit", self.lie(reference="477161243200"), "malformed_body")
        yield Refusal("another agreement", self.lie(agreement="999999"), "malformed_body")


class WompiHand(Hand):
    """The checksum stands in the body and covers values: id, status and amount, with the time."""

    secret = "events_secret"
    has_time = True
    signs_every_byte = False

    def change(self, fields: Fields, claims: Mapping[str, str]) -> None:
        transaction = fields["data"]["transaction"]
        if "amount" in claims:
            transaction["amount_in_cents"] = int(Decimal(claims["amount"]) * 100)
        transaction |= {name: claims[name] for name in ("currency", "reference") if name in claims}

    def renew(self, fields: Fields) -> None:
        """The transaction and its state are the event."""

    def sign(self, body: bytes, at: int, secret: str) -> tuple[bytes, dict[str, str]]:
        try:
            fields = self.read(body)
        except ValueError:  # cut off
            return body, {}
        fields["timestamp"] = at
        named = [path.removeprefix("transaction.") for path in fields["signature"]["properties"]]
        values = "".join(str(fields["data"]["transaction"][name]) for name in named)
        checksum = hashlib.sha256(f"{values}{at}{secret}".encode()).hexdigest().upper()
        fields["signature"]["checksum"] = checksum
        return self.write(fields), {"x-event-checksum": checksum}

    def refused(self, elsewhere: Till, reference: str) -> Iterator[Refusal]:
        unsigned = self.read(self.letter.body)
        del unsigned["signature"]["checksum"]
        fewer = self.read(self.letter.body)
        fewer["signature"]["properties"] = ["transaction.id"]
        expected = super().refused(elsewhere, reference)
        reasons = {"truncated": "malformed_body", "currency": "malformed_body"}
        for one in expected:
            if one.what not in ("unsigned", "reordered", "reference"):
                yield one._replace(reason=reasons.get(one.what, one.reason))
        yield Refusal("unsigned", self.post(self.write(unsigned)), "bad_signature")
        yield Refusal("fewer properties, signed", self.signed(self.write(fewer)), "bad_signature")


class PayuHand(Hand):
    """The signature stands in the body, over merchant, reference, value, currency and state."""

    secret = "api_key"
    signs_every_byte = False

    def read(self, body: bytes) -> Fields:
        return dict(parse_qsl(body.decode(), keep_blank_values=True))

    def write(self, fields: Fields) -> bytes:
        return urlencode(fields).encode()

    def change(self, fields: Fields, claims: Mapping[str, str]) -> None:
        names = {"amount": "value", "currency": "currency", "reference": "reference_sale"}
        fields |= {names[name]: value for name, value in claims.items()}

    def renew(self, fields: Fields) -> None:
        fields["transaction_id"] = str(uuid4())

    def sign(self, body: bytes, at: int, secret: str) -> tuple[bytes, dict[str, str]]:
        fields = self.read(body)
        if "value" not in fields:  # cut off
            return body, {}
        value = fields["value"].removesuffix("0") if fields["value"][-3] == "." else fields["value"]
        merchant, reference = fields["merchant_id"], fields["reference_sale"]
        text = f"{secret}~{merchant}~{reference}~{value}~{fields['currency']}~{fields['state_pol']}"
        return self.write(fields | {"sign": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}), {}

    def refused(self, elsewhere: Till, reference: str) -> Iterator[Refusal]:
        unsigned = self.read(self.letter.body)
        del unsigned["sign"]
        for one in super().refused(elsewhere, reference):
            if one.what == "truncated":
                yield one._replace(reason="malformed_body")
            elif one.what not in ("unsigned", "reordered", "truncated, signed"):
                yield one
        yield Refusal("unsigned", self.post(self.write(unsigned)), "bad_signature")
        live = self.read(self.letter.body) | {"test": "0"}
        yield Refusal("not a test", self.signed(self.write(live)), "malformed_body")
        foreign = self.read(self.letter.body) | {"merchant_id": elsewhere.credentials["merchant_id"]}
        yield Refusal("another merchant", self.signed(self.write(foreign)), "malformed_body")


class MeshulamHand(Hand):
    """Nothing is signed: the address ends in the account's token, the body shows the process's."""

    secret = "callback_token"
    signs_every_byte = False

    def read(self, body: bytes) -> Fields:
        return dict(parse_qsl(body.decode(), keep_blank_values=True))

    def write(self, fields: Fields) -> bytes:
        return urlencode(fields).encode()

    def change(self, fields: Fields, claims: Mapping[str, str]) -> None:
        names = {"amount": "data[sum]", "reference": "data[customFields][cField1]"}
        fields |= {names.get(name, f"data[{name}]"): value for name, value in claims.items()}

    def renew(self, fields: Fields) -> None:
        fields["data[transactionId]"] = str(time.time_ns())

    def sign(self, body: bytes, at: int, secret: str) -> tuple[bytes, dict[str, str]]:
        return body, {}

    def refused(self, elsewhere: Till, reference: str) -> Iterator[Refusal]:
        body, address = self.letter.body, self.till.hook_url.rpartition("/")[0]
        token, foreign = self.till.credentials["callback_token"], elsewhere.hook_url.rpartition("/")[0]
        yield Refusal("no path token", self.post(body, url=address), "wrong_token")
        yield Refusal("another path token", self.post(body, url=f"{address}/{'x' * 32}"), "wrong_token")
        yield Refusal("another address", self.post(body, url=f"{foreign}/{token}"), "wrong_token")
        yield Refusal("another workspace", self.post(body, url=elsewhere.hook_url), "wrong_token")
        yield Refusal("right process, wrong token", self.tampered(processToken="0" * 32), "wrong_token")
        yield Refusal("right token, wrong process", self.tampered(processId="99"), "wrong_token")
        yield Refusal("reference", self.tampered(reference=reference), "wrong_token")
        yield Refusal("another business", self.tampered(userId="business2"), "wrong_token")
        yield Refusal("no process token", self.tampered(processToken=""), "malformed_body")
        yield Refusal("truncated", self.truncated(), "malformed_body")


HANDS: dict[str, type[Hand]] = {
    "efecty": EfectyHand,
    "meshulam": MeshulamHand,
    "payplus": PayplusHand,
    "payu": PayuHand,
    "stripe": StripeHand,
    "wompi": WompiHand,
}


async def capture_told(shop: Shop, till: Till | None = None) -> Hand:
    """The hand that holds the callback about the money that an account has just taken."""
    account = till or shop.till
    hand = HANDS[account.payer.name]
    letters = await letters_of(shop, account)
    return hand(account, next(one for one in letters if hand.told_by in ("", one.type)))
