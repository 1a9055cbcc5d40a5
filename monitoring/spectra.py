"""Eigenvalues of wide layers, computed in a separate process with one BLAS thread.

On several threads, NumPy's linear algebra is up to ten times slower for these matrices on a busy
machine. The number of its threads belongs to the whole process, and a limit that overlaps another
library's cannot be restored correctly; a separate process needs no limit in this one.
"""

import os
import subprocess
import sys
import threading
import weakref
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np

SINGLE_THREADED = 64  # channels up to which BLAS stays on one thread anyway
ONE_THREAD = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
READY = b"ready"
CHILD = f"""
import sys
import numpy as np
read, write = sys.stdin.buffer, sys.stdout.buffer
write.write({READY!r})
write.flush()
while header := read.read(8):
    size = int(np.frombuffer(header, np.int64)[0])
    matrix = np.frombuffer(read.read(8 * size * size)).reshape(size, size)
    write.write(np.linalg.eigvalsh(matrix).tobytes())
    write.flush()
"""


class SpectrumProcess:
    """Computes eigenvalues; those of wide matrices in a process that is started when needed.

    If that process cannot be started or dies, and after `close`, they are computed in place.

    Example:
        >>> spectra = SpectrumProcess()
        >>> spectra.eigvalsh(np.diag([2.0, 1.0])).tolist()
        [1.0, 2.0]
        >>> spectra.close()
    """

    def __init__(self) -> None:
        self._process: Any = None
        self._end: weakref.finalize[..., Any] | None = None
        self._lock = threading.RLock()
        # A frozen application would start itself instead of Python.
        self._in_place = not sys.executable or hasattr(sys, "frozen")

    def eigvalsh(self, matrices: np.ndarray) -> np.ndarray:
        """Computes the eigenvalues of symmetric matrices, like `numpy.linalg.eigvalsh`.

        Args:
            matrices: (..., n, n), float64.

        Returns:
            Eigenvalues in ascending order, (..., n).
        """
        size = matrices.shape[-1]
        if size <= SINGLE_THREADED or not np.isfinite(matrices).all():
            return np.linalg.eigvalsh(matrices)
        stack = np.ascontiguousarray(matrices, np.float64).reshape(-1, size, size)
        with self._lock:
            eigenvalues = None if self._in_place else self._ask_for_all(stack)
        if eigenvalues is None:
            return np.linalg.eigvalsh(matrices)
        return eigenvalues.reshape(matrices.shape[:-1])

    def close(self) -> None:
        """Ends the process, if there is one, and starts no other."""
        with self._lock:
            self._in_place = True
            if self._end is not None:
                self._end()
            self._process = self._end = None

    def _ask_for_all(self, stack: np.ndarray) -> np.ndarray | None:
        """Returns the eigenvalues of (matrices, n, n), or None if the process fails."""
        with suppress(OSError, EOFError), ExitStack() as failure:
            # After any error, an unread answer would be mistaken for the next one.
            failure.callback(self.close)
            if self._process is None:
                self._start()
            eigenvalues = np.array([self._ask(matrix) for matrix in stack])
            failure.pop_all()
            return eigenvalues
        return None

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | dict.fromkeys(ONE_THREAD, "1"),
            start_new_session=True,  # Ctrl-C is for the training
        )
        self._end = weakref.finalize(self, _end_process, self._process)
        self._read(len(READY), expected=READY)

    def _ask(self, matrix: np.ndarray) -> np.ndarray:
        size = len(matrix)
        self._process.stdin.write(np.int64(size).tobytes() + matrix.tobytes())
        self._process.stdin.flush()
        return np.frombuffer(self._read(8 * size))

    def _read(self, length: int, expected: bytes | None = None) -> bytes:
        answer: bytes = self._process.stdout.read(length)
        if len(answer) < length or expected not in (None, answer):
            raise EOFError("The process that computes spectra has ended or prints other text.")
        return answer


def _end_process(process: Any) -> None:
    """Kills the process, which has nothing to lose, and closes its pipes.

    Closing alone would not end it: a worker forked by a data loader holds the pipes open.
    """
    process.kill()  # does nothing in such a worker, as the process is not its child
    process.wait()
    process.stdout.close()
    with suppress(OSError):  # what the process has not read
        process.stdin.close()
