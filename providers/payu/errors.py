"""From PayU's answers to what is known about the money. HTTP statuses are judged in providers/http.py.

PayU answers HTTP 200 with `code: ERROR` and a text, or with a transaction in the state DECLINED or ERROR. The texts are
documented nowhere and may quote what was sent, so they are searched for a few words and then dropped.
"""

from __future__ import annotations

import re

from providers.base import OutcomeUnknown, ProviderError, ProviderMisconfigured, ProviderRejected

REJECTED = "rejected"
"""PayU refused and the reason is not known: it may also be that our reference was used before."""
REGISTERED = "already_registered"
"""PayU says that it has this already: an order, or a request to refund it that is still under review."""

_CREDENTIALS = re.compile(
    r"credential|credencial|api ?key|api ?login|unauthori[sz]ed|no autorizad|authenticat|autentica|access denied",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(r"signature|firma", re.IGNORECASE)
_REGISTERED = re.compile(
    r"\b(already|ya|já)\b.{0,80}?(regist|exist|request|solicit|pend|proces)"
    r"|pending (refund|request|revers)|(solicitud|reembolso|reversi.n) (pendiente|en (curso|proceso))",
    re.IGNORECASE | re.DOTALL,
)
_ITS_OWN_FAULT = re.compile(
    r"internal|interno|time ?d? ?-?out|unavailable|no disponible|try again|intente|temporar|unexpected|inesperad",
    re.IGNORECASE,
)
_CODE = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)


def refused(error: object, command: str) -> ProviderError:
    """What `code: ERROR` with this text says about the money."""
    words = error if isinstance(error, str) else ""
    detail = f"code ERROR to {command}"
    if _CREDENTIALS.search(words):
        return ProviderMisconfigured("invalid_credentials", detail)
    if _SIGNATURE.search(words):
        return ProviderMisconfigured("signature_refused", detail)
    if _REGISTERED.search(words):
        return ProviderRejected(REGISTERED, detail)
    if _ITS_OWN_FAULT.search(words):
        return OutcomeUnknown("provider_error", detail)
    return ProviderRejected(REJECTED, detail)


def failure_code(value: object, fallback: str) -> str:
    """A response code such as INSUFFICIENT_FUNDS in small letters, if it is safe to show."""
    return value.lower() if isinstance(value, str) and _CODE.fullmatch(value) else fallback
