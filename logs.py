"""Structured logs: JSON in production, readable in development, secrets and personal data never in either."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

_SECRET_NAMES = re.compile(
    r"secret|password|token|authorization|api_?key|credential|signature|email|customer_name|card|cvc|body",
    re.IGNORECASE,
)
_SECRET_VALUES = re.compile(
    r"(dp_(?:live|test)_[\w-]{8,256}|[sr]k_(?:test|live)_\w{1,256}|whsec_[\w+/=]{1,256}"
    r"|[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{1,190}"
    r"|\b(?:\d[ -]?){13,19}\b"
    r"|://[^/\s:@]{1,256}:[^/\s@]{1,256}@)"
)
"""Every repeat has a bound, so that the cost is linear in the text, whoever wrote it."""
_CALLBACK_TOKEN = re.compile(r"(/webhooks/[^/\s]{1,64}/[^/\s]{1,64}/)[^\s?#\"']{1,512}")
"""The last part of a callback address may be all that authenticates it."""
MASK = "[redacted]"
MAX_TEXT = 4_000
"""Characters of one value that are logged; a traceback may have four times as many."""
LONG = {"exception": 4 * MAX_TEXT}
_CUT_OFF = 512
"""Dropped at the end of what was cut: half a secret there would look like none."""


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask by name what must not be logged, and by shape what slipped into a text. Long texts are cut first."""
    for name, value in event.items():
        if _SECRET_NAMES.search(name):
            event[name] = MASK
        elif isinstance(value, str):
            event[name] = _masked(value, LONG.get(name, MAX_TEXT))
    return event


def _masked(text: str, limit: int) -> str:
    shown = _CALLBACK_TOKEN.sub(rf"\1{MASK}", _SECRET_VALUES.sub(MASK, text[:limit]))
    return shown if len(text) <= limit else f"{shown[:-_CUT_OFF]}… ({len(text)} characters)"


def configure(*, style: Literal["json", "console"], level: str = "INFO") -> None:
    """Set up structlog and the standard library's logging on the same output (standard error)."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("httpx", "httpcore", "stripe", "uvicorn.access", "temporalio.activity"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
