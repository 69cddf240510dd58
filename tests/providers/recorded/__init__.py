"""What providers' real systems are publicly known to send: the facts re-typed, each with its source.

`recorded/{provider}/{name}.json` is an object with `source` (where it can be read), `seen` (year and month), `status`
(of HTTP, where it is an answer) and `body` (JSON, or a text where the provider sends none). Ids and people in them are
made up. The adapter is tested on the body itself; the sandbox is held to its shape by `same_shape`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def recording(provider: str, name: str) -> Any:
    """One recording's body."""
    return json.loads((HERE / provider / f"{name}.json").read_text())["body"]


def recordings() -> list[tuple[str, str, dict[str, Any]]]:
    """All of them: provider, name and the whole file."""
    return [(one.parent.name, one.stem, json.loads(one.read_text())) for one in sorted(HERE.glob("*/*.json"))]


def same_shape(recorded: Any, answered: Any, at: str = "$") -> list[str]:
    """Where an answer lacks a field of the recording or has another JSON type there; nothing when it is alike.

    Numbers are one type; null is alike to null alone, and an empty list or object to any.
    """
    if isinstance(recorded, dict) and isinstance(answered, dict):
        return [
            found
            for key, value in recorded.items()
            for found in (
                [f"{at}.{key} is missing"] if key not in answered else same_shape(value, answered[key], f"{at}.{key}")
            )
        ]
    if isinstance(recorded, list) and isinstance(answered, list):
        return same_shape(recorded[0], answered[0], f"{at}[0]") if recorded and answered else []
    kinds = [float if type(one) is int else type(one) for one in (recorded, answered)]
    return [] if kinds[0] is kinds[1] else [f"{at} is {kinds[1].__name__}, recorded as {kinds[0].__name__}"]
