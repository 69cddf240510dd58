"""Write the environment files of docker-compose.yml from their examples, with fresh secrets.

`python3 deploy/make_env.py`; needs nothing but Python. A file that exists is never touched.
"""  # noqa: INP001  (a script beside the files that it writes)

from __future__ import annotations

import argparse
import base64
import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

FILES = (".env", "postgres.env", "temporal.env")

MAKERS: Mapping[str, Callable[[], str]] = {
    "POSTGRES_PASSWORD": lambda: secrets.token_urlsafe(24),
    "PAYMENTS_PASSWORD": lambda: secrets.token_urlsafe(24),
    "TEMPORAL_PASSWORD": lambda: secrets.token_urlsafe(24),
    "FERNET_KEY": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "CODEC_KEY": lambda: base64.b64encode(secrets.token_bytes(32)).decode(),
}
_PLACE = re.compile(r"@([A-Z_]+)@")


def fill(examples: Mapping[str, str]) -> dict[str, str]:
    """The texts with one secret for each name, the same in every file."""
    made = {name: make() for name, make in MAKERS.items()}
    return {file: _PLACE.sub(lambda place: made[place[1]], text) for file, text in examples.items()}


def write(folder: Path) -> int:
    """Write the files, readable by their owner only. Returns the exit code: 1 when one of them is there already."""
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        sys.stderr.write(f"{', '.join(there)} exists in {folder}; nothing was written. Remove it for new secrets.\n")
        return 1
    for name, text in fill({name: (folder / f"{name}.example").read_text() for name in FILES}).items():
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        sys.stdout.write(f"wrote {folder / name}\n")
    return 0


def main() -> int:
    """Returns the exit code."""
    argparse.ArgumentParser(prog="make_env.py", description=__doc__).parse_args()
    return write(Path(__file__).parent)


if __name__ == "__main__":
    sys.exit(main())
