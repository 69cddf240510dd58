"""How long a provider is left alone after a failed try."""

from __future__ import annotations

from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationError

from activities.errors import LONGEST_WAIT, SPREAD, as_application_error, wait_before
from providers.base import OutcomeUnknown, ProviderBusy


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1), (2, 2), (4, 8), (7, 60), (400, 60)])
def test_waits_double_up_to_a_minute_and_are_spread(attempt: int, seconds: float) -> None:
    waits = [wait_before(attempt, None).total_seconds() for _ in range(200)]
    assert seconds <= min(waits) < max(waits) <= seconds * (1 + SPREAD)
    assert len(set(waits)) > 100


def test_what_the_provider_asked_for_is_never_cut_short() -> None:
    waits = [wait_before(9, timedelta(minutes=5)) for _ in range(200)]
    assert timedelta(minutes=5) <= min(waits) < max(waits) <= timedelta(minutes=5) * (1 + SPREAD)


def test_the_engine_is_told_the_wait_and_the_workflow_only_what_was_asked_for() -> None:
    with pytest.raises(ApplicationError) as busy, as_application_error():
        raise ProviderBusy("rate_limit", retry_after=timedelta(seconds=30))
    assert busy.value.next_retry_delay is not None
    assert busy.value.details == ("rate_limit", busy.value.next_retry_delay.total_seconds())
    assert busy.value.next_retry_delay >= timedelta(seconds=30)
    with pytest.raises(ApplicationError) as silent, as_application_error():
        raise OutcomeUnknown("timeout")
    assert silent.value.details == ("timeout", None)
    assert silent.value.next_retry_delay is not None
    assert silent.value.next_retry_delay <= LONGEST_WAIT
