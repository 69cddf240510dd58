"""Ids that are computed: the same for ever, since what was written under one is looked for under it after a deploy."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from domain.payment import attempt_reference, payment_id_for
from domain.setup import customer_reference, setup_id_for, setup_workflow_id
from domain.subscription import attempt_payment_id, invoice_id_for, subscription_workflow_id

ONE, OTHER = UUID("018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79"), UUID("018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a80")


@pytest.mark.parametrize(
    ("make", "of", "expected"),
    [
        (
            attempt_reference,
            (
                ONE,
                1,
            ),
            "018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79",
        ),
        (
            attempt_reference,
            (
                ONE,
                2,
            ),
            "74bbbbd1-f6e1-5c96-8d85-ce22c833276a",
        ),
        (
            payment_id_for,
            (
                ONE,
                "k",
            ),
            "2734e31b-6205-5bbd-8819-cca8234949a8",
        ),
        (
            setup_id_for,
            (
                ONE,
                "k",
            ),
            "84ca581d-4777-5f5a-99bc-715a60a3b43d",
        ),
        (
            customer_reference,
            (
                ONE,
                "c",
            ),
            "992c16e2-4715-5bda-93b6-d4b0514888de",
        ),
        (setup_workflow_id, (ONE,), "setup-018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79"),
        (subscription_workflow_id, (ONE,), "subscription-018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79"),
        (
            invoice_id_for,
            (
                ONE,
                3,
                0,
            ),
            "bcc4124c-52b8-5d20-b26b-bdc98d573a63",
        ),
        (
            invoice_id_for,
            (
                ONE,
                3,
                1,
            ),
            "f1acb23d-5a33-5aa1-86d8-05473a60bb8d",
        ),
        (
            attempt_payment_id,
            (
                ONE,
                1,
            ),
            "cf6ac031-89aa-5cd6-94f2-6be93616d27b",
        ),
        (
            attempt_payment_id,
            (
                ONE,
                2,
            ),
            "74bbbbd1-f6e1-5c96-8d85-ce22c833276a",
        ),
    ],
)
def test_an_id_of_this_release_stays(make: Callable[..., object], of: tuple[object, ...], expected: str) -> None:
    assert str(make(*of)) == expected


def test_ids_of_different_things_are_different() -> None:
    made = [
        make(whose, key)
        for whose in (ONE, OTHER)
        for key in ("k", "l")
        for make in (payment_id_for, setup_id_for, customer_reference)
    ]
    made += [attempt_reference(whose, number) for whose in (ONE, OTHER) for number in (1, 2, 3)]
    made += [invoice_id_for(ONE, period, sequence) for period in range(3) for sequence in range(3)]
    made += [attempt_payment_id(invoice_id_for(OTHER, 0, 0), number) for number in (1, 2)]
    assert len(set(made)) == len(made)
