"""Bodies that are no JSON, as the description of the API tells of them."""

from __future__ import annotations

from typing import Any, Final

BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
TEXT: Final = {"schema": {"type": "string"}}


def answers_with(media_type: str, schema: dict[str, Any], description: str) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: what it answers when all is well, which is no JSON."""
    return {200: {"content": {media_type: schema}, "description": description}}


def takes(*media_types: str, description: str) -> dict[str, Any]:
    """For a route's `openapi_extra`: the body is taken byte by byte."""
    content = dict.fromkeys(media_types, BINARY)
    return {"requestBody": {"description": description, "required": True, "content": content}}
