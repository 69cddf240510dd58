"""What is written twice says the same twice."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import click
import pytest
from temporalio import activity

import settings
from activities.checkout import CheckoutActivities
from activities.confirmation import ConfirmationActivities
from activities.disputes import DisputeActivities
from activities.followed import FollowedSubscriptions
from activities.payouts import PayoutActivities
from activities.receipts import ReceiptActivities
from activities.refunds import RefundActivities
from activities.risk import RiskActivities
from activities.setups import SetupActivities
from activities.subscriptions import SubscriptionActivities
from activities.surplus import SurplusActivities
from api.app import PREFIX, create_app
from api.problems import _PATTERNS, CODES
from cli.lazy import Lazy
from cli.main import cli
from storage.models import Base
from workflows import calls

IMPLEMENTATIONS = (
    CheckoutActivities,
    ConfirmationActivities,
    DisputeActivities,
    PayoutActivities,
    ReceiptActivities,
    RefundActivities,
    SubscriptionActivities,
    FollowedSubscriptions,
    SetupActivities,
    SurplusActivities,
    RiskActivities,
)
ROOT = Path(__file__).parents[2]
ADR = ROOT / "docs/adr"
SECTIONS = ["Context", "Decision", "Consequences", "What enforces it"]
THEIRS = {"/transactions", "/merchants/{public_key}", "/api/v3/wporders", "/api/v3/porders"}
"""Routes of providers, named in their connect pages."""
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#]+)")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_readme_lists_every_setting_as_the_code_does() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "settings"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert printed in (ROOT / "README.md").read_text()
    assert len(printed.splitlines()) == len(settings.Settings.model_fields) + 2


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    missing = [target for target in LINK.findall(document.read_text()) if not (document.parent / target).exists()]
    assert not missing


def test_the_makefile_has_every_command_that_the_documents_name() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for document in DOCUMENTS for name in re.findall(r"`make ([a-z-]+)", document.read_text())}
    assert named
    assert named <= targets


def test_every_error_code_is_documented_with_its_status_and_title() -> None:
    row = re.compile(r"^\| `([a-z_]+)` \| (\d{3}) \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)
    told = row.findall((ROOT / "docs/errors.md").read_text())
    assert [(code, (int(status), title)) for code, status, title in told] == sorted(CODES.items())


def test_sql_is_written_in_storage_alone() -> None:
    """Sessions and errors of the library may be named anywhere."""
    writers = {"select", "insert", "update", "delete", "func", "text", "exists", "literal"}
    for folder in ("activities", "api", "cli", "dispatch", "embedded", "engine", "receipts"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sqlalchemy"):
                    assert not writers & {one.name for one in node.names}, path


def test_every_pattern_of_the_api_is_told_in_words() -> None:
    """A regular expression is no help to who mistyped."""
    described = json.dumps(create_app(nullcontext).openapi())  # type: ignore[arg-type]  # not started
    assert {
        json.loads(f'"{one}"') for one in re.findall(r'"pattern": "((?:[^"\\\\]|\\\\.)*)"', described)
    } <= _PATTERNS.keys()


def test_the_index_of_decisions_is_complete_and_each_has_its_sections() -> None:
    pages = sorted(path.name for path in ADR.glob("0*.md"))
    index = (ADR / "README.md").read_text()
    assert re.findall(r"^\| \[\d{4}\]\(([^)]+)\)", index, re.MULTILINE) == pages
    for name in pages:
        page = (ADR / name).read_text()
        assert page.startswith(f"# {name[:4]} ")
        assert "\nStatus: " in page
        assert [one for one in re.findall(r"^## (.+)$", page, re.MULTILINE) if one in SECTIONS] == SECTIONS


def test_tests_that_documents_name_exist() -> None:
    tests = {path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.glob("tests/**/*.py")}
    known = {name for text in tests.values() for name in re.findall(r"def (test_\w+)", text)}
    files = {Path(path).stem for path in tests}
    for document in DOCUMENTS:
        told = set(re.findall(r"[`:](test_[a-z0-9]+_[a-z0-9_]+)(?=`)", document.read_text()))
        assert told <= known | files, document.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_documents_name_exist(document: Path) -> None:
    named = set(
        re.findall(r"`((?:[a-z0-9_]+/)+[a-z0-9_.*-]+\.(?:py|md|toml|html|yml))(?:::\w+)?`", document.read_text())
    )
    assert not [path for path in named if not list(ROOT.glob(path))]


def test_constraints_that_documents_name_exist() -> None:
    known = {str(one.name) for table in Base.metadata.tables.values() for one in table.constraints}
    known |= {str(one.name) for table in Base.metadata.tables.values() for one in table.indexes}
    for document in DOCUMENTS:
        assert set(re.findall(r"`((?:uq|ck)_[a-z_]+)`", document.read_text())) <= known, document.name


def test_routes_that_documents_name_exist() -> None:
    """Written as `POST /api/v1/…`, with the prefix or without."""
    described = create_app(nullcontext).openapi()["paths"]  # type: ignore[arg-type]  # not started
    routes = {(method.upper(), re.sub(r"\{\w+\}", "{}", path)) for path, of in described.items() for method in of}
    named = re.compile(r"\b(GET|POST|PATCH|PUT|DELETE) `?(?:\$API|\$api)?(/[a-z][a-z0-9/{}_-]*)")
    for document in DOCUMENTS:
        for method, path in named.findall(document.read_text()):
            plain = re.sub(r"\{\w+\}", "{}", path)
            theirs = "sandbox" in path or path in THEIRS
            assert theirs or {(method, plain), (method, f"{PREFIX}{plain}")} & routes, (
                f"{document.name}: {method} {path}"
            )


def test_commands_that_documents_name_exist() -> None:
    """`payment-cli account check`: every word down to the first that is no command."""
    for document in DOCUMENTS:
        for line in re.findall(r"payment-cli ((?:[a-z][a-z-]+ ?)+)", document.read_text()):
            here: click.Command = cli
            for word in line.split():
                if not isinstance(here, click.Group):
                    break
                assert word in here.commands, f"{document.name}: payment-cli {line}"
                here = here.commands[word]
                here = here.load() if isinstance(here, Lazy) else here


def test_activities_are_what_workflows_call() -> None:
    """The stubs carry names and types; the implementations must have the same."""
    implemented = {
        activity._Definition.must_from_callable(method).name: method
        for kind in IMPLEMENTATIONS
        for _, method in inspect.getmembers(kind, inspect.isfunction)
        if activity._Definition.from_callable(method) is not None
    }
    stubs = {
        name: stub
        for name, stub in inspect.getmembers(calls, inspect.isfunction)
        if activity._Definition.from_callable(stub) is not None
    }
    assert set(stubs) == set(implemented)
    for name, stub in stubs.items():
        promised, kept = inspect.signature(stub), inspect.signature(implemented[name])
        assert [p.annotation for p in promised.parameters.values()] == [
            p.annotation for p in kept.parameters.values() if p.name != "self"
        ], name
        assert promised.return_annotation == kept.return_annotation, name
