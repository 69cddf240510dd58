"""The description of the API tells of every body what it is, so that generated clients have it."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Any

import pytest

from api import health, metrics
from api.app import V1, create_app
from api.problems import METHODS

SPEC = create_app(nullcontext).openapi()  # type: ignore[arg-type]  # not started
OPERATIONS = [(f"{method} {path}", of) for path, every in SPEC["paths"].items() for method, of in every.items()]
NO_BODY = {"204", "304"}
RECEIVED = {"receive_for_account", "receive_with_token", "receive_for_default"}
"""Providers look at the status alone."""


def says(schema: dict[str, Any]) -> bool:
    """Whether a schema says what is there."""
    return bool(schema.keys() & {"$ref", "type", "anyOf", "oneOf", "allOf", "enum", "const"})


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_every_body_has_a_schema_and_every_answer_a_content_type(name: str, operation: dict[str, Any]) -> None:
    assert set(SPEC["paths"][name.split(" ")[1]]) <= {one.lower() for one in METHODS}
    if "requestBody" in operation:
        assert operation["requestBody"]["content"]
        assert all(says(one.get("schema", {})) for one in operation["requestBody"]["content"].values())
    for status, answer in operation["responses"].items():
        whole = SPEC["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]] if "$ref" in answer else answer
        if status in NO_BODY or (status == "200" and operation["operationId"] in RECEIVED):
            assert "content" not in whole
            continue
        assert whole["content"], f"{status} has no content type"
        assert all(says(one.get("schema", {})) for one in whole["content"].values()), f"{status} has no schema"
        assert whole["description"]


def test_what_reads_the_request_itself_says_what_it_takes() -> None:
    """FastAPI derives nothing from a route that reads the body byte by byte."""
    raw = {
        route.name
        for one in (*V1, health, metrics)
        for route in one.router.routes
        if any(re.search(r"\bRequest\b", str(kind)) for kind in route.endpoint.__annotations__.values())
    }
    assert raw == {name for _, of in OPERATIONS if "requestBody" in of for name in [of["operationId"]] if name in raw}
    assert len(raw) == 5
