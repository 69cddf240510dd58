"""What is written twice says the same twice."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from temporalio import activity

import settings
from activities.checkout import CheckoutActivities
from activities.confirmation import ConfirmationActivities
from activities.disputes import DisputeActivities
from activities.receipts import ReceiptActivities
from activities.refunds import RefundActivities
from activities.surplus import SurplusActivities
from workflows import calls

IMPLEMENTATIONS = (
    CheckoutActivities,
    ConfirmationActivities,
    DisputeActivities,
    ReceiptActivities,
    RefundActivities,
    SurplusActivities,
)
ROOT = Path(__file__).parents[2]
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
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for document in DOCUMENTS for name in re.findall(r"`make ([a-z]+)", document.read_text())}
    assert named
    assert named <= targets


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
