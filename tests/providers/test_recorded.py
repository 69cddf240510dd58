"""Recordings name their source, and the comparison that holds the sandbox to them sees a difference."""

from __future__ import annotations

from tests.providers.recorded import recordings, same_shape


def test_every_recording_says_where_it_was_seen() -> None:
    for provider, name, told in recordings():
        assert set(told) <= {"source", "seen", "status", "body", "note"}, (provider, name)
        assert told["source"], (provider, name)
        assert told["seen"].startswith("20"), (provider, name)
        assert "body" in told, (provider, name)


def test_a_missing_field_and_another_type_are_seen() -> None:
    recorded = {"state": "PENDING", "transactionId": None, "values": [{"amount": 1}]}
    assert same_shape(recorded, recorded | {"further": 1}) == []
    assert same_shape(recorded, {"state": "PENDING", "values": []}) == ["$.transactionId is missing"]
    assert same_shape(recorded, recorded | {"transactionId": "x"}) == ["$.transactionId is str, recorded as NoneType"]
    other = recorded | {"values": [{"amount": "1"}]}
    assert same_shape(recorded, other) == ["$.values[0].amount is str, recorded as float"]
