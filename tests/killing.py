"""Runs of train.py that are killed with signal 9 on the way."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def start(*options: object) -> subprocess.Popen:
    """Starts train.py."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "train.py", *map(str, options)], cwd=ROOT, **quiet)


def kill(process: subprocess.Popen, is_due: Callable[[], bool], delay: float = 0.0) -> None:
    """Kills a process a while after something has come true."""
    try:
        deadline = time.monotonic() + 240
        while not is_due():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(delay)
        assert process.poll() is None, "ended before it was killed"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
