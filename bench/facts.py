"""Where and with what the figures were made."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

from embedded.postgres import BINARIES
from embedded.stack import ROOT
from embedded.temporal import binary

PACKAGES = ("temporalio", "fastapi", "uvicorn", "sqlalchemy", "asyncpg", "pydantic", "stripe", "typst", "uvloop")


def machine() -> dict[str, object]:
    """Processor, memory, system, and how busy it was before the run."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average_before": [round(value, 2) for value in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Interpreter, servers and the packages that matter for speed."""
    found = {name: version(name) for name in PACKAGES}
    return {
        "python": platform.python_version(),
        "temporal": _output(binary("temporal"), "--version"),
        "postgres": _output(str(BINARIES / "postgres"), "--version"),
    } | found


def revision() -> dict[str, object]:
    """The commit, and whether the sources differed from it."""
    try:
        changed = _output("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "--", "*.py")
        return {"commit": _output("git", "-C", str(ROOT), "rev-parse", "HEAD"), "changed_sources": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "changed_sources": None}


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
