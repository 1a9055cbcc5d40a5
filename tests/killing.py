"""Runs of train.py that are killed with signal 9 on the way."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def start(
    *options: object, log: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.Popen:
    """Starts train.py.

    Args:
        options: Its options.
        log: File to which its output is appended. Defaults to None: it is dropped.
        environment: Variables besides this process's. Defaults to none.
    """
    output = subprocess.DEVNULL if log is None else log.open("ab")
    try:
        return subprocess.Popen(
            [sys.executable, "train.py", *map(str, options)],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=output,
        )
    finally:
        if log is not None:
            output.close()


def kill(
    process: subprocess.Popen, is_due: Callable[[], bool], delay: float = 0.0, limit: float = 240
) -> None:
    """Kills a process a while after something has come true, within `limit` seconds."""
    try:
        wait_until(is_due, process, limit)
        time.sleep(delay)
        assert process.poll() is None, "ended before it was killed"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(is_due: Callable[[], bool], process: subprocess.Popen, limit: float) -> None:
    """Waits until something has come true while a process runs, for `limit` seconds at most."""
    deadline = time.monotonic() + limit
    while not is_due():
        assert process.poll() is None, "ended before it was killed"
        assert time.monotonic() < deadline, "is not due in time"
        time.sleep(0.005)
