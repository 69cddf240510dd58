"""`python -m api`: serve the API until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import signal

import uvicorn

import logs
import process
import wiring
from api.app import create_app
from api.door import Addresses
from api.limits import KEEP_ALIVE_SECONDS, MAX_CONNECTIONS, BoundedHttp
from api.services import open_services
from api.stopping import STOP_SECONDS
from settings import load_settings


def main() -> int:
    """Serve. Returns the exit code."""
    argparse.ArgumentParser(prog="python -m api", description=__doc__).parse_args()
    settings = load_settings()
    logs.configure(style=settings.log_style, level=settings.log_level)
    wiring.require_usable(settings)
    app = create_app(lambda: open_services(settings))
    BoundedHttp.trusted = Addresses(settings.trusted_proxy_list).is_trusted
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        http=BoundedHttp,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = uvicorn.Server(config)
    signal.signal(signal.SIGTERM, lambda *_: None)  # the server sends it once more when all is done; that would kill us
    server.run()
    return 0 if server.started else 3


if __name__ == "__main__":
    process.end(main)
