"""PayU's commands: payments and queries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from xml.sax.saxutils import escape

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from sandbox.faults import FaultPlan, Trouble, after_acting, before_acting
from sandbox.payu_fields import MANDATORY, missing_in
from sandbox.payu_refunds import LISTED_AT_ONCE, PayuRefunds
from sandbox.payu_twin import COLOMBIA, PayuTwin, Refusal, amount_of, response_of, shown
from sandbox.state import Json
from sandbox.variants import chosen

CASH_DAYS = 7
CASH_LIMITS = {"BALOTO": (3_000, 1_000_000), "EFECTY": (20_000, 6_000_000), "OTHERS_CASH": (1_000, 4_000_000)}
CASH = frozenset({*CASH_LIMITS, "BANK_REFERENCED"})
BANKS = [
    {"id": "0", "description": "A continuación seleccione su banco", "pseCode": "0"},
    {"id": "1", "description": "BANCOLOMBIA", "pseCode": "1007"},
    {"id": "2", "description": "BANCO DE BOGOTÁ", "pseCode": "1001"},
    {"id": "3", "description": "BANCO DAVIVIENDA", "pseCode": 1051},
]


@dataclass(slots=True)
class PayuApi:
    """The commands."""

    twin: PayuTwin
    faults: FaultPlan
    refunds: PayuRefunds

    async def answer(self, request: Request, *, queries: bool) -> Response:
        """Authenticate, misbehave if asked to, act, and answer in JSON only if JSON is accepted."""
        as_json = "application/json" in request.headers.get("accept", "")
        try:
            body = await request.json()
            if not isinstance(body, dict):
                raise Refusal("Invalid request format")  # noqa: TRY301
            operation = _operation(body, queries=queries)
            fault = await self.faults.of(request, operation)
            await before_acting(fault)
            result = self._act(body, str(request.base_url).rstrip("/"), queries=queries)
            await after_acting(fault)
        except Trouble as trouble:
            return JSONResponse({"code": "ERROR"}, trouble.status, headers=trouble.headers)
        except Refusal as refusal:
            result = {"code": "ERROR", "error": str(refusal)} | (
                {"result": None} if queries else {"transactionResponse": None}
            )
        except ValueError:
            result = {"code": "ERROR", "error": "Invalid request format"}
        if as_json:
            return JSONResponse(result)
        name = "reportingResponse" if queries else "paymentResponse"
        code, error = result["code"], escape(str(result.get("error") or ""))
        xml = f"<{name}><code>{code}</code><error>{error}</error></{name}>"
        return Response(xml, media_type="application/xml")

    def _act(self, body: Json, base_url: str, *, queries: bool) -> Json:
        merchant = self._authenticate(body)
        command = body.get("command")
        if command == "PING":
            return {"code": "SUCCESS", "error": None} | ({"result": {"payload": "PONG"}} if queries else {})
        if queries:
            return {"code": "SUCCESS", "error": None, "result": self._query(command, body, merchant)}
        if command == "GET_BANKS_LIST":
            return {"code": "SUCCESS", "error": None, "banks": BANKS}
        if command == "GET_PAYMENT_METHODS":
            methods = [{"id": number, "description": name, "country": "CO"} for number, name in enumerate(sorted(CASH))]
            return {"code": "SUCCESS", "error": None, "paymentMethods": methods}
        if command == "SUBMIT_TRANSACTION":
            transaction = body.get("transaction") or {}
            refund = transaction.get("type") in ("REFUND", "PARTIAL_REFUND")
            answer = self.refunds.request(transaction, merchant) if refund else self._submit(body, merchant, base_url)
            return {"code": "SUCCESS", "error": None, "transactionResponse": answer}
        raise Refusal("The command is not valid")

    def _authenticate(self, body: Json) -> Json:
        merchant = body.get("merchant") or {}
        key, login = str(merchant.get("apiKey") or ""), str(merchant.get("apiLogin") or "")
        if not key or not login or "invalid" in key or "invalid" in login:
            raise Refusal("Invalid credentials")
        return self.twin.merchant_of_key(key)

    def _query(self, command: object, body: Json, merchant: Json) -> Json | None:
        details, owner = body.get("details") or {}, merchant["api_key"]
        if command == "ORDER_DETAIL_BY_REFERENCE_CODE":
            orders = self.twin.orders(str(details.get("referenceCode")), owner)
            return {"payload": [self._shown(one, merchant) for one in orders]} if orders else None
        if command == "ORDER_DETAIL":
            order = self.twin.order_by_id(str(details.get("orderId")), owner)
            return None if order is None else {"payload": self._shown(order, merchant)}
        if command == "TRANSACTION_RESPONSE_DETAIL":
            pair = self.twin.transaction(str(details.get("transactionId")), owner)
            if pair is None:
                return None
            return {"payload": pair[1]["transactionResponse"] | {"extraParameters": pair[1]["extraParameters"]}}
        raise Refusal("The command is not valid")

    def _shown(self, order: Json, merchant: Json) -> Json:
        reasons = not merchant["hides_reasons"] or self.twin.behaves(order, LISTED_AT_ONCE)
        return shown(order, with_reasons=reasons)

    def _submit(self, body: Json, merchant: Json, base_url: str) -> Json:
        transaction = body["transaction"]
        order = transaction.get("order") or {}
        sent = (order.get("additionalValues") or {}).get("TX_VALUE") or {}
        reference, method = str(order.get("referenceCode") or ""), transaction.get("paymentMethod")
        if transaction.get("type") != "AUTHORIZATION_AND_CAPTURE" or transaction.get("paymentCountry") != "CO":
            raise Refusal("The transaction type is not allowed in this country")
        signed = f"{reference}~{sent.get('value')}~{sent.get('currency')}"
        if not self.twin.signs(merchant, None, signed, str(order.get("signature"))):
            raise Refusal("The signature of the order is not valid")
        value = amount_of(sent)
        if value != value.to_integral_value():
            raise Refusal("The value must not have decimals")
        token = transaction.get("creditCardTokenId")
        if method not in CASH and method != "PSE" and token is None:
            raise Refusal("The payment method is not supported")
        mandatory = chosen(self.twin.store, merchant["api_key"], MANDATORY)
        if absent := missing_in(transaction, mandatory=mandatory):
            raise Refusal(f"Required fields are empty: {', '.join(absent)}")
        card = None if token is None else self.twin.store.get("payu_card", f"payu_card:{token}", merchant["api_key"])
        if token is not None and card is None:
            raise Refusal("The credit card token does not exist")
        made = self.twin.new_order(
            merchant["api_key"],
            {
                "referenceCode": reference,
                "additionalValues": {"TX_VALUE": {"value": str(value), "currency": sent.get("currency")}},
                "_notify_url": order.get("notifyUrl"),
                "_response_url": (transaction.get("extraParameters") or {}).get("RESPONSE_URL"),
                "_description": order.get("description", ""),
                "_test": "1" if body.get("test") else "0",
            },
        )
        if card is not None:
            code = card["outcomes"].pop(0) if card["outcomes"] else "APPROVED"
            self.twin.store.put("payu_card", merchant["api_key"], card, f"payu_card:{token}")
            state = "APPROVED" if code == "APPROVED" else "DECLINED"
            return response_of(made, self.twin.attempt(made, str(method), state, code))
        low, high = CASH_LIMITS.get(method, (1, 10**9))
        if not low <= value <= high:
            return response_of(made, self.twin.attempt(made, method, "DECLINED", "EXCEEDED_AMOUNT"))
        one = self.twin.attempt(made, method, "PENDING", "PENDING_TRANSACTION_CONFIRMATION")
        one["extraParameters"] = extra_of(made, one, transaction, base_url)
        self.twin.keep(made)
        return response_of(made, one)


def _operation(body: Json, *, queries: bool) -> str:
    if body.get("command") == "PING":
        return "payu.ping"
    if queries:
        return "payu.query"
    if body.get("command") == "GET_BANKS_LIST":
        return "payu.banks"
    kind = (body.get("transaction") or {}).get("type")
    return "payu.refund" if kind in ("REFUND", "PARTIAL_REFUND") else "payu.submit"


def extra_of(order: Json, one: Json, transaction: Json, base_url: str) -> Json:
    """`extraParameters` of an answer: the bank's address, or what the payer says at the counter."""
    if one["paymentMethod"] == "PSE":
        return {"BANK_URL": f"{base_url}/payu/pse/{one['id']}", "TRANSACTION_CYCLE": 1}
    latest = datetime.now(COLOMBIA) + timedelta(days=CASH_DAYS)
    try:
        asked = datetime.fromisoformat(str(transaction.get("expirationDate"))).replace(tzinfo=COLOMBIA)
    except ValueError:
        asked = latest
    voucher = f"{base_url}/payu/cash/{one['id']}"
    extra: Json = {
        "EXPIRATION_DATE": int(min(asked, latest).timestamp() * 1000),
        "REFERENCE": order["id"],
        "URL_PAYMENT_RECEIPT_HTML": voucher,
        "URL_PAYMENT_RECEIPT_PDF": voucher,
    }
    if one["paymentMethod"] == "BANK_REFERENCED":
        extra |= {"BANCO_BOGOTA_SERVICE_CODE": 4321, "BANCOLOMBIA_SERVICE_CODE": "11111"}
    return extra
