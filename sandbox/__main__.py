"""`python -m sandbox --port 8100 [--state-file FILE]`."""

from __future__ import annotations

import argparse
from pathlib import Path

import uvicorn

from sandbox.app import create_app


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--state-file", type=Path)
    chosen = parser.parse_args()
    uvicorn.run(
        create_app(chosen.state_file),
        host=chosen.host,
        port=chosen.port,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,  # as providers do; clients drop an idle connection sooner
    )


if __name__ == "__main__":
    main()
