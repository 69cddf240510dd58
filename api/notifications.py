"""Order notifications as the description of the API tells of them.

`python -m api.notifications` prints all types as docs/notifications.md has them.
"""

from __future__ import annotations

import argparse
import json
from typing import Any, Final

from domain.notifications import NOTIFICATIONS, example_of

HEADERS: Final = {
    "webhook-id": "Names the notification: a repeat has the same one.",
    "webhook-timestamp": "When this delivery was sent, in seconds since 1970.",
    "webhook-signature": "`v1,` and the signature in base64; two of them, separated by a space, while secrets rotate.",
}
_ANSWERS: Final = {
    "2XX": {"description": "Taken; the next one in line follows"},
    "default": {"description": "Not taken, as silence and redirects are: sent again, and those behind it wait"},
}


def webhooks() -> dict[str, Any]:
    """The `webhooks` of the description: what the order service is sent."""
    return {kind: {"post": _operation(kind)} for kind in NOTIFICATIONS}


def _operation(kind: str) -> dict[str, Any]:
    example = example_of(kind)
    schema = {
        "type": "object",
        "required": list(example),
        "properties": {
            "type": {"type": "string", "const": kind},
            "timestamp": {"type": "string", "format": "date-time"},
            "data": _object(example["data"]),
        },
    }
    return {
        "operationId": f"on_{kind.replace('.', '_')}",
        "summary": NOTIFICATIONS[kind].meaning.split(" (")[0],
        "description": "Sent to the workspace's `order_webhook_url`; see docs/notifications.md for order and proof.",
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
            for name, text in HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
        "responses": _ANSWERS,
    }


def _object(example: dict[str, Any]) -> dict[str, Any]:
    properties = {name: _type(value) for name, value in example.items()}
    return {"type": "object", "required": list(example), "properties": properties, "additionalProperties": True}


def _type(value: object) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return {"type": ["integer", "null"]}
    if isinstance(value, list):
        return {"type": "array", "items": _object(value[0])}
    return {"type": ["string", "null"]}


def document() -> str:
    """Each type with its meaning and an example, as docs/notifications.md has them."""
    parts = []
    for kind, told in NOTIFICATIONS.items():
        data = json.dumps(dict(told.data), indent=2, ensure_ascii=False)
        parts.append(f"### `{kind}`\n\n{told.meaning[:1].upper()}{told.meaning[1:]}.\n\n```json\n{data}\n```")
    return "\n\n".join(parts)


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m api.notifications", description=document.__doc__).parse_args()
    print(document())  # noqa: T201
