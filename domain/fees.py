"""What a provider keeps for itself: the fee that an account agreed on, as it is expected at the capture."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from domain.money import Money


@dataclass(frozen=True, slots=True)
class FeeSchedule:
    """A share of each capture and a fixed part. `rate` is a fraction (0.029 is 2.9 percent), `fixed` major units.

    `returned`: the provider gives the fee back in proportion with each refund; most keep it.
    """

    rate: Decimal = Decimal(0)
    fixed: Decimal = Decimal(0)
    returned: bool = False

    def of(self, captured: Money) -> Money:
        """The fee of a capture, rounded half up to the minor unit; never more than the capture.

        Raises MoneyError when the fixed part has more digits than the currency.
        """
        fee = captured.times(self.rate) + Money.from_decimal(self.fixed, captured.currency)
        return min(fee, captured)
