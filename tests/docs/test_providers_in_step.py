"""What the documents say of providers is what the code has."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.routing import OF_EVERY_ACCOUNT
from embedded.places import PLACES
from providers.base import Capabilities, Method, RefundWindow
from providers.registry import NAMES, PROVIDERS, WEBHOOK_TOOLS, known_options, required_credentials
from providers.table import FACTS, PARTS, WORDS, Cell, cell, limits_of, lines, markdown_table

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/adding-a-provider.md").read_text()
CORE = ("activities", "api", "cli", "dispatch", "domain", "engine", "receipts", "storage", "workflows")
NAME = re.compile(rf"\b({'|'.join(PROVIDERS)})\b", re.IGNORECASE)


def rows(text: str, *heads: str) -> Iterator[list[str]]:
    """The cells of every table whose first column has one of these heads."""
    wanted = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            wanted = False
        elif cells[0] in heads:
            wanted = True
        elif wanted and not cells[0].startswith("---"):
            yield cells


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([a-z0-9_]+)`", cell)


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_a_provider_is_where_the_guide_says(name: str) -> None:
    for path in (
        f"providers/{name}/__init__.py",
        f"sandbox/{name}.py",
        f"tests/providers/payers/{name}.py",
        f"docs/connect-{name}.md",
    ):
        assert (ROOT / path).exists(), path
    assert list(ROOT.glob(f"tests/providers/test_{name}*.py"))
    assert f"(docs/connect-{name}.md)" in (ROOT / "README.md").read_text()
    assert f"providers.{name}" not in (ROOT / "pyproject.toml").read_text()
    assert (ROOT / "providers/registry.py").read_text().count(name) == 1


def test_every_list_of_providers_has_all_of_them() -> None:
    assert set(PROVIDERS) == set(WEBHOOK_TOOLS) == set(PLACES) == set(NAMES)
    assert set(PROVIDERS) == {path.name for path in (ROOT / "providers").iterdir() if (path / "__init__.py").exists()}


@pytest.mark.parametrize("path", sorted(path for folder in CORE for path in (ROOT / folder).rglob("*.py")), ids=str)
def test_nothing_but_examples_names_a_provider(path: Path) -> None:
    """The core reads capability sheets. Docstrings and what the API's description shows may name one."""
    tree = ast.parse(path.read_text())
    shown = (
        {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.keyword) and node.arg in ("examples", "json_schema_extra")
            for inner in ast.walk(node.value)
        }
        | {
            id(node.value)
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "EXAMPLE_PROVIDER"
        }
        | {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and isinstance(node.body[0], ast.Expr)
        }
    )
    named = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in shown
    ]
    assert not [text for text in named if NAME.search(text)]


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_a_connect_page_names_exactly_the_credentials_that_are_required(name: str) -> None:
    page = (ROOT / f"docs/connect-{name}.md").read_text()
    found = re.search(r"-d '(\{.*?\})'\n```", page, re.DOTALL)
    assert found, "no request to paste"
    request = json.loads(found.group(1).replace("'\"$TOKEN\"'", "token"))
    assert request["provider"] == name
    assert set(request["credentials"]) == set(required_credentials(name))


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_a_connect_page_knows_only_credentials_and_options_that_the_adapter_reads(name: str) -> None:
    page = (ROOT / f"docs/connect-{name}.md").read_text()
    source = "".join(path.read_text() for path in (ROOT / "providers" / name).glob("*.py"))
    told = {word for cells in rows(page, "credential") for word in quoted(cells[0])}
    unread = {word for word in told if f'"{word}"' not in source}
    assert not {word for word in unread if not word.startswith("page_code_")}  # one for each method's name


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_a_connect_page_tells_every_option_that_is_taken_and_read(name: str) -> None:
    page = (ROOT / f"docs/connect-{name}.md").read_text()
    told = {word for cells in rows(page, "option") for word in quoted(cells[0])}
    assert told <= known_options(name) | OF_EVERY_ACCOUNT
    readers = [
        *(ROOT / "providers" / name).glob("*.py"),
        ROOT / "providers/http.py",
        ROOT / "dispatch/subscriptions.py",
    ]
    source = "".join(path.read_text() for path in readers)
    for option in known_options(name):
        assert re.search(rf"\b{option}\b", page), f"{option} is not in the page"
        assert source.count(f'"{option}"') > 1, f"{option} is read by nothing"


def test_the_guide_lists_the_conformance_suite() -> None:
    suite = (ROOT / "tests/providers/test_conformance.py").read_text()
    told = [word for cells in rows(GUIDE, "test") for word in quoted(cells[0])]
    assert told == re.findall(r"^async def (test_\w+)", suite, re.MULTILINE)


@pytest.mark.parametrize("sheet", [Capabilities, Method])
def test_the_guide_says_what_each_field_of_the_sheet_drives(sheet: type) -> None:
    told = {word for cells in rows(GUIDE, "field") for word in quoted(cells[0])}
    fields = {field.name for field in dataclasses.fields(sheet)}
    assert fields <= told
    assert told <= {field.name for one in (Capabilities, Method) for field in dataclasses.fields(one)}


def test_what_the_guide_calls_unread_is_read_by_nothing() -> None:
    unread = [word for cells in rows(GUIDE, "field") for word in quoted(cells[0]) if "read by nothing" in cells[1]]
    core = "".join(path.read_text() for folder in CORE for path in (ROOT / folder).rglob("*.py"))
    assert unread
    assert not [field for field in unread if re.search(rf"(capabilities|sheet)\.{field}\b", core)]


def test_the_page_of_capabilities_is_what_the_code_prints() -> None:
    assert markdown_table() in (ROOT / "docs/providers.md").read_text(), "python -m providers.table"


def test_a_reason_is_given_for_a_line_of_the_table_that_it_fits() -> None:
    """A limit of the provider's is stated for what the sheet lacks; a stale one would contradict it."""
    for name in PROVIDERS:
        stated = limits_of(name)
        assert set(stated) <= set(lines()), name
        said = {line: cell(name, line) for line in lines()}
        assert not [line for line, one in stated.items() if one.kind == "limit" and said[line].startswith(Cell.YES)]
        assert all(one.why.endswith(".") for one in stated.values())
        for line in set(lines()) - set(stated):
            assert said[line] not in (Cell.LIMIT, Cell.UNCONFIRMED), (name, line)


def test_the_table_has_a_line_for_every_ability_and_every_part() -> None:
    abilities = {field.name for field in dataclasses.fields(Capabilities) if field.type == "bool"} - FACTS
    assert abilities <= set(lines())
    assert set(WORDS) | FACTS <= {field.name for field in dataclasses.fields(Capabilities)}
    of_sheet = {"ListsBanks", "Acknowledges", "KeepsCustomers", "ImportsTokens", "SavesMethods", "ChargesSaved"}
    optional = {word for cells in rows(GUIDE, "in `providers/base.py`") for word in re.findall(r"`(\w+)`", cells[0])}
    of_lines = {part.__name__ for _, parts in PARTS.values() for part in parts}
    assert optional <= of_sheet | of_lines, "a line in PARTS of providers/table.py"


def test_a_sheet_without_a_reason_is_ours_to_build(monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = PROVIDERS["stripe"].capabilities
    for changes, line, says in (
        ({"partial_refund": False}, "partial_refund", Cell.OURS),
        ({"refund_window": RefundWindow(0, "UTC", "there")}, "refund_window", "same day"),
        ({"refund_window": RefundWindow(357, "UTC", "there")}, "refund_window", "357 days"),
        ({"idempotency_key_lifetime": None}, "idempotency_keys", Cell.OURS),
    ):
        monkeypatch.setattr(PROVIDERS["stripe"], "capabilities", dataclasses.replace(sheet, **changes))
        assert cell("stripe", line) == says


def test_the_guide_names_every_part_that_an_adapter_may_have() -> None:
    tree = ast.parse((ROOT / "providers/base.py").read_text())
    optional = {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef) and "runtime_checkable" in {ast.unparse(one) for one in node.decorator_list}
    }
    told = {word for cells in rows(GUIDE, "in `providers/base.py`") for word in re.findall(r"`(\w+)`", cells[0])}
    assert told == optional
