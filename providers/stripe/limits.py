"""What Stripe itself cannot do, or what nobody has confirmed; all else that is missing is ours to build."""

from __future__ import annotations

from collections.abc import Mapping

from providers.limits import Limit, limit

LIMITS: Mapping[str, Limit] = {
    "bank_list": limit("PSE is Colombia's."),
}
