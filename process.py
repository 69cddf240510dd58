"""Ending a process: everything is closed and flushed, then the interpreter is left without its own shutdown.

The Temporal runtime's threads can crash an interpreter that tears itself down, after all the work is done; that would
turn a good exit into a bad exit code and lose buffered output.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn


def end(main: Callable[[], int | None]) -> NoReturn:
    """Run a program to its end and exit with its code; a SystemExit keeps its own, an error is shown and gives 1."""
    try:
        code = main() or 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if isinstance(leaving.code, str):
            sys.stderr.write(leaving.code + "\n")
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        logging.getLogger().exception("ended by an error")
        code = 1
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more; that is no reason for another exit code
            stream.flush()
    os._exit(code)
