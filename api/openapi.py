"""The description of the API: what FastAPI derives from the routes, and the problems that every route can answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI

from api.notifications import webhooks
from api.problems import CODES, MEDIA_TYPE, answers, example_of

OF_SECURED_ROUTES: Final = ("unauthenticated", "forbidden", "rate_limited")
OF_WORKSPACES: Final = ("workspace_required",)
OF_INPUT: Final = ("validation_failed",)
OF_BODIES: Final = ("malformed_body", "body_too_large")
OF_PATHS: Final = ("not_found",)
OF_THE_SERVICE: Final = ("internal_error", "temporarily_unavailable")
OF_NO_ROUTE: Final = ("method_not_allowed", "target_too_long", "headers_too_large")
"""Codes that are answered before a route is chosen."""
OF_EVERY_ROUTE: Final = frozenset(
    {*OF_SECURED_ROUTES, *OF_WORKSPACES, *OF_INPUT, *OF_BODIES, *OF_THE_SERVICE, *OF_NO_ROUTE}
)
"""Codes that need not be named route by route: they follow from the form of the route."""
OF_THE_PLATFORM: Final = ("administration", "health")
"""Tags of routes that take a key without a workspace."""
UNDOCUMENTED: Final = ("/healthz", "/readyz")
"""Routes whose errors are their answers."""
EMPTY_FOR_UNKNOWN: Final = ("/report", "/statement")
"""Ends of paths about a referrer, which answer for one who is not on record too."""

TAGS: Final = [
    {"name": "payments", "description": "Start, read and cancel payments, and what can be offered to a payer."},
    {"name": "payment methods", "description": "Cards and the like that are saved once and charged later."},
    {"name": "subscriptions", "description": "Plans, subscriptions, their changes and their invoices."},
    {"name": "refunds", "description": "Money given back, in full or in part."},
    {"name": "credit", "description": "What customers have left over, and the payments that it comes from."},
    {"name": "disputes", "description": "What payers' banks have taken back or ask about."},
    {"name": "webhooks", "description": "Callbacks of the providers; nobody else calls these."},
    {"name": "receipts", "description": "Numbered documents and their PDFs."},
    {"name": "commissions", "description": "What referrers have earned."},
    {"name": "referrers", "description": "Who they are, their statements, and who earns nothing."},
    {"name": "payouts", "description": "Batches that pay referrers: prepare, approve, export, record results."},
    {"name": "surplus", "description": "Money beyond what was owed."},
    {"name": "administration", "description": "Workspaces, API keys, provider accounts. Needs the scope `admin`."},
    {"name": "health", "description": "For load balancers and monitoring."},
]

PROBLEM: Final = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. `code` is stable; `detail` says what to do. Some carry more fields, see docs/errors.md.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": sorted(CODES)},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "description": "With validation_failed: each field and what is wrong with it.",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
    "additionalProperties": True,
}


def describe(app: FastAPI) -> None:
    """Complete the application's description, once, when it is first asked for."""
    derive = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            spec = derive()
            components = spec["components"]
            shared: dict[str, Any] = components.setdefault("responses", {})
            for path, operations in spec["paths"].items():
                for operation in operations.values():
                    _add_problems(path, operation, shared)
            components["examples"] = {code: {"value": example_of(code)} for code in sorted(CODES)}
            components["schemas"]["Problem"] = PROBLEM
            spec["webhooks"] = webhooks()
            for name in ("HTTPValidationError", "ValidationError"):
                components["schemas"].pop(name, None)
        assert app.openapi_schema is not None  # noqa: S101  (derived above)
        return app.openapi_schema

    app.openapi = complete  # type: ignore[method-assign]  # as FastAPI's documentation tells


def _add_problems(path: str, operation: dict[str, Any], shared: dict[str, Any]) -> None:
    """Complete an operation's answers; those that are nothing but problems are kept in `shared`, each once."""
    responses = operation["responses"]
    content = responses.get("422", {}).get("content", {})
    if "HTTPValidationError" in str(content.get("application/json")):  # FastAPI's own words, which are never answered
        del content["application/json"]
        responses["422"]["description"] = ""
        if not content:
            del responses["422"]
    for status, added in answers(*_usual(path, operation)).items():
        here = responses.setdefault(str(status), {"description": "", "content": {}})
        problems = here.setdefault("content", {}).setdefault(MEDIA_TYPE, added["content"][MEDIA_TYPE])
        problems["examples"] = dict(sorted((problems["examples"] | added["content"][MEDIA_TYPE]["examples"]).items()))
    for status, response in responses.items():
        told = response.get("content", {}).get(MEDIA_TYPE, {}).get("examples")
        if told and len(response["content"]) == 1:
            response["description"] = "; ".join(f"`{code}`: {CODES[code][1]}" for code in told)
            name = ".".join(told)
            shared[name] = response
            responses[status] = {"$ref": f"#/components/responses/{name}"}
    if responses.get("202", {}).get("description") == "Accepted":
        responses["202"]["description"] = "Accepted, and not finished: read it again"
    operation["responses"] = dict(sorted(responses.items()))


def _usual(path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    """The codes that follow from the form of a route."""
    if path in UNDOCUMENTED:
        return
    yield from OF_THE_SERVICE
    if "security" in operation:
        yield from OF_SECURED_ROUTES
        if not set(OF_THE_PLATFORM).intersection(operation["tags"]):
            yield from OF_WORKSPACES
    if "requestBody" in operation:
        yield from OF_BODIES
    if "security" in operation and ("requestBody" in operation or operation.get("parameters")):
        yield from OF_INPUT
    if "{" in path and not path.endswith(EMPTY_FOR_UNKNOWN):
        yield from OF_PATHS
