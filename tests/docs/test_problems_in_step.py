"""The description of the API names the problems that each route can answer: no more, and no fewer."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any, cast

import jsonschema
from fastapi.routing import APIRoute

from api import health, metrics
from api.app import PREFIX, V1, create_app
from api.openapi import OF_EVERY_ROUTE, OF_NO_ROUTE
from api.payment_methods import NewSetup
from api.payments import NewPayment, PaymentOut
from api.plans import NewPlan
from api.problems import CODES
from api.refunds import NewRefund, RefundOut
from api.subscriptions import NewSubscription
from api.ways import NewWay

ROOT = Path(__file__).parents[2]
REFUSALS_ELSEWHERE = ("activities.subscription_changes",)
"""Where else a code of the API is chosen."""
OF_A_CHANGE_OF_PLAN = {"amount_not_representable", "plan_not_available", "subscription_cancel_scheduled"}
REACHED_AND_NEVER_ANSWERED = {
    "list_methods": {"provider_misconfigured"},  # such an account offers nothing
    "create_payment": {"provider_unavailable"},  # stands for a provider's code that is missing
    "create_setup": {"provider_unavailable"},
    "create_subscription": {"provider_unavailable"},
    "cancel_subscription": {"payment_method_not_active", *OF_A_CHANGE_OF_PLAN},
    "pause_subscription": {"payment_method_not_active", *OF_A_CHANGE_OF_PLAN},
    "resume_subscription": {"payment_method_not_active", *OF_A_CHANGE_OF_PLAN},
    "change_plan": {"payment_method_not_active"},
    "preview_change": {"payment_method_not_active", "idempotency_key_reused"},
    "change_method": {"provider_unavailable", *OF_A_CHANGE_OF_PLAN},
    "preview_refund": {"idempotency_key_reused"},  # it has no key
    "take_results": {"payout_line_has_result", "payout_line_not_paid", "payout_not_approved"},  # told row by row
    "prepare_payout": {"not_found"},  # it was just made
    "referrer_report": {"not_found"},
    "referrer_statement": {"not_found"},
}


@cache
def module(name: str) -> Mapping[str, tuple[str, ast.AST]]:
    """What a module's names stand for: the module that has it, and the definition."""
    known: dict[str, tuple[str, ast.AST]] = {}
    path = ROOT / f"{name.replace('.', '/')}.py"
    for node in ast.parse(path.read_text()).body if path.exists() else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            known[node.name] = (name, node)
        elif isinstance(node, ast.Assign):
            known |= {one.id: (name, node.value) for one in node.targets if isinstance(one, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            known[node.target.id] = (name, node.value)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("api.", *REFUSALS_ELSEWHERE)):
            there = module(str(node.module))
            known |= {one.asname or one.name: there[one.name] for one in node.names if one.name in there}
    return known


def reached(name: str, node: ast.AST, seen: set[tuple[str, int]]) -> Iterator[str]:
    """The codes that stand in a definition, and in all that it names."""
    if (name, id(node)) in seen:
        return
    seen.add((name, id(node)))
    body = node.body[1:] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and docstring(node) else None
    parts = [node] if body is None else [*body, node.args, *filter(None, [node.returns])]  # type: ignore[attr-defined]
    walked = [inner for one in parts for inner in ast.walk(one)]
    shown = {
        id(inner)
        for one in walked
        if isinstance(one, ast.keyword) and one.arg == "json_schema_extra"
        for inner in ast.walk(one.value)
    }
    for part in (inner for inner in walked if id(inner) not in shown):
        if isinstance(part, ast.Constant) and part.value in CODES:
            yield str(part.value)
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load) and part.id in module(name):
            yield from reached(*module(name)[part.id], seen)


def docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)


def codes_of(route: APIRoute) -> set[str]:
    where = route.endpoint.__module__
    return set(reached(*module(where)[route.endpoint.__name__], set()))


def described(operation: dict[str, Any], responses: dict[str, Any]) -> set[str]:
    told: set[str] = set()
    for response in operation["responses"].values():
        whole = responses[response["$ref"].rsplit("/", 1)[1]] if "$ref" in response else response
        told |= set(whole.get("content", {}).get("application/problem+json", {}).get("examples", {}))
    return told


def test_every_route_names_the_problems_that_it_can_answer() -> None:
    spec = create_app(nullcontext).openapi()  # type: ignore[arg-type]  # not started
    seen = set()
    for one, prefix in ((health, ""), (metrics, ""), *((one, PREFIX) for one in V1)):
        for route in one.router.routes:
            assert isinstance(route, APIRoute)
            for method in route.methods or ():
                told = described(
                    spec["paths"][f"{prefix}{route.path}"][method.lower()], spec["components"]["responses"]
                )
                reachable = codes_of(route) - REACHED_AND_NEVER_ANSWERED.get(route.name, set())
                assert told - OF_EVERY_ROUTE == reachable - OF_EVERY_ROUTE, f"{method} {route.path}"
                seen |= told
    assert seen | {*OF_NO_ROUTE} == set(CODES)


def test_the_description_is_sound() -> None:
    spec = create_app(nullcontext).openapi()  # type: ignore[arg-type]  # not started
    operations = [operation for path in spec["paths"].values() for operation in path.values()]
    assert all(operation["summary"] and operation["description"] for operation in operations)
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert {tag for operation in operations for tag in operation["tags"]} == {tag["name"] for tag in spec["tags"]}
    text = json.dumps(spec)
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', text)):
        place: Any = spec
        for part in reference.split("/"):
            place = place[part]
    assert "HTTPValidationError" not in text
    for example in spec["components"]["examples"].values():
        jsonschema.validate(example["value"], spec["components"]["schemas"]["Problem"])
    schemas = spec["components"]["schemas"]
    for operation in operations:
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        for name in re.findall(r"#/components/schemas/(\w+)", json.dumps(body)):
            whole = schemas[name]
            told = {field for field, of in whole["properties"].items() if {"examples", "$ref", "format"} & of.keys()}
            assert "example" in whole or set(whole.get("required", [])) <= told, f"{name} has no example"
    for model in (NewPayment, NewPlan, NewRefund, NewSubscription, NewSetup, NewWay, PaymentOut, RefundOut):
        model.model_validate(cast("dict[str, Any]", model.model_config["json_schema_extra"])["example"])
    unsecured = {operation["operationId"] for operation in operations if "security" not in operation}
    assert unsecured == {"alive", "ready", "receive_for_account", "receive_for_default", "receive_with_token"}
