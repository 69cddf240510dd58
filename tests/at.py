"""Runs a command as if it were another moment: `python -m tests.at '2026-12-31 23:50' make test`.

The machine's clock stays as it is. Every program that the command starts, and those that they start (Python,
PostgreSQL, Temporal), asks the kernel's vDSO for the time; this one follows them all (ptrace) and, where a program
begins, writes into that program's own copy of the vDSO that the wall clock is so many seconds ahead or behind. Clocks
that only measure durations stay right, and so do the times of files. Linux on x86-64; needs no rights of its own.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import math
import os
import signal
import struct
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

CONTINUE, SEIZE, LISTEN = 7, 0x4206, 0x4208
EXEC_EVENT, STOP_EVENT = 4, 128
FOLLOW = 0x2 | 0x4 | 0x8 | 0x10 | 0x100000
"""Forks of both kinds, threads and new programs; all of them end with this process."""
EVERY_CHILD = 0x40000000
JOB_STOPS = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
REACH = 2**31 - 1
"""Seconds by which the clock can be moved, either way: 68 years."""

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
libc.ptrace.restype = ctypes.c_long


def clocks(ahead: int) -> dict[str, bytes]:
    """Machine code for the vDSO's functions: ask the kernel, then add `ahead` seconds to what is wall-clock time."""
    shift = struct.pack("<i", ahead)
    return {
        # mov eax, 228; syscall; CLOCK_REALTIME and CLOCK_REALTIME_COARSE: add qword [rsi], shift; ret
        "__vdso_clock_gettime": b"\xb8\xe4\0\0\0\x0f\x05\x85\xff\x74\x05\x83\xff\x05\x75\x07\x48\x81\x06"
        + shift
        + b"\xc3",
        # mov eax, 96; syscall; unless there is no place for it: add qword [rdi], shift; ret
        "__vdso_gettimeofday": b"\xb8\x60\0\0\0\x0f\x05\x48\x85\xff\x74\x07\x48\x81\x07" + shift + b"\xc3",
        # xor edi, edi; mov eax, 201; syscall: the place is written last, so it is kept in rdx
        "__vdso_time": b"\x48\x89\xfa\x31\xff\xb8\xc9\0\0\0\x0f\x05\x48\x05"
        + shift
        + b"\x48\x85\xd2\x74\x03\x48\x89\x02\xc3",
    }


def symbols(image: bytes) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each function that a 64-bit ELF image offers."""
    (sections,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", image, sections + number * size) for number in range(count)]
    for _, kind, _, _, start, length, link, *_ in headers:
        if kind == 11:  # the symbols of a dynamic object; `link` is the section with their names
            for place in range(start, start + length, 24):
                name, _, _, _, value, extent = struct.unpack_from("<IBBHQQ", image, place)
                first = headers[link][4] + name
                yield image[first : image.index(b"\0", first)].decode(), value, extent


@functools.cache
def patches(image: bytes, ahead: int) -> tuple[tuple[int, bytes], ...]:
    """What to write into a vDSO, and where in it."""
    code, found = clocks(ahead), {name: (value, extent) for name, value, extent in symbols(image)}
    if not code.keys() <= found.keys() or any(len(code[name]) > found[name][1] for name in code):
        raise SystemExit("this kernel's vDSO is of another kind; nothing was run")
    return tuple((found[name][0], text) for name, text in code.items())


def move_clock(task: int, ahead: int) -> None:
    """Move the clock of a program that has not begun yet."""
    for line in Path(f"/proc/{task}/maps").read_text().splitlines():
        if line.endswith("[vdso]"):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            with Path(f"/proc/{task}/mem").open("r+b", buffering=0) as memory:
                memory.seek(start)
                for place, code in patches(memory.read(end - start), ahead):
                    memory.seek(start + place)
                    memory.write(code)


def resume(task: int, request: int = CONTINUE, number: int = 0) -> None:
    """Let a stopped task go on; one that was killed meanwhile is none any more."""
    libc.ptrace(request, task, None, number)


def begin(command: list[str]) -> int:
    """Start the command in a process that is followed from its first program on. Returns its id."""
    may_begin, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(may_begin, 1)
        try:
            os.execvp(command[0], command)  # noqa: S606  (the command is what this program is for)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
            os._exit(127)
    if libc.ptrace(SEIZE, child, None, FOLLOW) != 0:
        os.kill(child, signal.SIGKILL)
        raise SystemExit(f"the command cannot be followed: {os.strerror(ctypes.get_errno())}")
    os.close(go)
    os.close(may_begin)
    return child


def follow(child: int, ahead: int) -> int:
    """Move the clock of every program that begins, until the first one ends. Returns its exit code."""
    while True:
        task, status = os.waitpid(-1, EVERY_CHILD)
        if not os.WIFSTOPPED(status):
            if task == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code  # as a shell tells of a signal
            continue
        event, number = status >> 16, os.WSTOPSIG(status)
        if event == EXEC_EVENT:
            move_clock(task, ahead)
        if event == STOP_EVENT and number in JOB_STOPS:
            resume(task, LISTEN)
        else:
            resume(task, number=0 if event else number)


def main() -> int:
    """Returns the command's exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.at", description=__doc__)
    parser.add_argument("moment", type=datetime.fromisoformat, help="in this machine's zone, or with an offset")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run, with its arguments")
    chosen = parser.parse_args()
    ahead = math.ceil(chosen.moment.timestamp() - datetime.now().astimezone().timestamp())
    if not chosen.command or abs(ahead) > REACH:
        parser.error("a command is needed, and a moment within 68 years")
    child = begin(chosen.command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who presses Ctrl-C means the command, which hears it too
    signal.signal(signal.SIGTERM, lambda number, _: os.kill(child, number))
    return follow(child, ahead)


if __name__ == "__main__":
    sys.exit(main())
