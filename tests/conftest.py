"""One PostgreSQL, one Temporal server, one sandbox and one service for the whole run; every test has its own shop."""

from __future__ import annotations

import functools
import os
import secrets
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio
import structlog

from embedded.stack import Ports, Stack, engines
from sandbox.app import create_app
from tests.support.service import Service, Shop, running_service, served

# every client would read all certificate authorities again, 20 ms each, and never use them: all is on this machine
ssl.create_default_context = functools.cache(ssl.create_default_context)  # type: ignore[assignment]
# the HTTP client looks for this package at every request, through the whole path, and can do without it
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]

# new cases at every run, in CI too; a failure prints how to repeat it, and the head of the output has the seed
for profile in ("ci", "local"):  # Hypothesis has a "ci" of its own, with the same cases every time
    hypothesis.settings.register_profile(profile, derandomize=False, deadline=None, print_blob=True)
hypothesis.settings.register_profile(  # `make mutate` wants to know that something fails, not the smallest case of it
    "mutate", deadline=None, database=None, phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate]
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed of this run's cases, unless one is given; processes of pytest-xdist get the same one."""
    if config.getoption("hypothesis_seed") is None:
        config.option.hypothesis_seed = secrets.randbits(32)


def pytest_report_header(config: pytest.Config) -> str:
    """How to draw the same cases again."""
    return f"cases of Hypothesis: repeat them with --hypothesis-seed={config.getoption('hypothesis_seed')}"


# the default renders tracebacks with all variables: slow by seconds, and not what the service does
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say aloud what this machine lacks: a count of skipped tests is read by nobody."""
    told = {str(report.longrepr[-1]) for report in terminalreporter.stats.get("skipped", []) if report.longrepr}
    for reason in sorted(one.removeprefix("Skipped: ") for one in told if "is not on this machine" in one):
        terminalreporter.write_line(f"NOT RUN: {reason}", red=True, bold=True)


SLOW_FIRST = ("crash", "workflows", "embedded", "model", "e2e", "api", "activities", "storage")
"""Folders whose files are long: begun first, so that no processor is left alone with one at the end."""


def pytest_xdist_auto_num_workers() -> int | None:
    """Three workers for two processors: a third of the time a test waits, for a timer or for another process."""
    chosen = "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ
    return None if chosen else max(1, len(os.sched_getaffinity(0)) * 3 // 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files; the tests within each stay as they are."""

    def place(item: pytest.Item) -> int:
        folder = item.path.parent.name
        return SLOW_FIRST.index(folder) if folder in SLOW_FIRST else len(SLOW_FIRST)

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> None:
    """A developer's own environment must not reach the tests."""
    for name in ("DATABASE_URL", "TEMPORAL_ADDRESS", "REDIS_URL", "CREDENTIALS_KEYS", "TEMPORAL_CODEC_KEYS"):
        os.environ.pop(name, None)


@pytest_asyncio.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """PostgreSQL (migrated) and Temporal."""
    state = tmp_path_factory.mktemp("stack")
    for folder in (state, *state.parents):
        if folder.owner() == "root" and folder != Path("/") and folder.stat().st_mode & 0o111 != 0o111:
            folder.chmod(folder.stat().st_mode | 0o111)
    async with engines(state, Ports.free()) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def sandbox_url() -> AsyncIterator[str]:
    """The sandbox provider over real HTTP."""
    async with served(create_app()) as url:
        yield url


@pytest_asyncio.fixture(scope="session")
async def service(stack: Stack, sandbox_url: str) -> AsyncIterator[Service]:
    """API and worker."""
    async with running_service(stack, sandbox_url) as running:
        yield running


@pytest_asyncio.fixture
async def shop(service: Service) -> AsyncIterator[Shop]:
    """A workspace of this test's own."""
    made = await service.shop()
    yield made
    await made.aclose()
    await made.sandbox("DELETE", "/faults")
