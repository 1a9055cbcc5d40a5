"""Eigenvalues of wide layers, in a process of their own with one BLAS thread.

On several threads, NumPy's linear algebra is ten times slower for these matrices on a busy machine.
The number of its threads belongs to the whole process, and a limit that overlaps another
library's cannot be given back correctly; a process of its own needs none.
"""

import os
import subprocess
import sys
import weakref
from typing import Any

import numpy as np

SINGLE_THREADED = 64  # channels up to which BLAS stays on one thread anyway
ONE_THREAD = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
CHILD = """
import sys
import numpy as np
read, write = sys.stdin.buffer, sys.stdout.buffer
while header := read.read(8):
    size = int(np.frombuffer(header, np.int64)[0])
    matrix = np.frombuffer(read.read(8 * size * size)).reshape(size, size)
    write.write(np.linalg.eigvalsh(matrix).tobytes())
    write.flush()
"""


class SpectrumProcess:
    """Computes eigenvalues; those of wide matrices in a process that is started when needed.

    If that process cannot be started or ends, they are computed in place.

    Example:
        >>> spectra = SpectrumProcess()
        >>> spectra.eigvalsh(np.diag([2.0, 1.0])).tolist()
        [1.0, 2.0]
        >>> spectra.close()
    """

    def __init__(self) -> None:
        self._process: Any = None
        self._end: weakref.finalize[..., Any] | None = None
        self._in_place = not sys.executable

    def eigvalsh(self, matrices: np.ndarray) -> np.ndarray:
        """Computes the eigenvalues of symmetric matrices, like `numpy.linalg.eigvalsh`.

        Args:
            matrices: (..., n, n), float64.

        Returns:
            Eigenvalues in ascending order, (..., n).
        """
        size = matrices.shape[-1]
        if size <= SINGLE_THREADED or self._in_place or not np.isfinite(matrices).all():
            return np.linalg.eigvalsh(matrices)
        stack = np.ascontiguousarray(matrices, np.float64).reshape(-1, size, size)
        try:
            eigenvalues = [self._ask(matrix) for matrix in stack]
        except (OSError, EOFError):
            self.close()
            self._in_place = True
            return np.linalg.eigvalsh(matrices)
        return np.array(eigenvalues).reshape(matrices.shape[:-1])

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self._end is not None:
            self._end()
        self._process = self._end = None

    def _ask(self, matrix: np.ndarray) -> np.ndarray:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | dict.fromkeys(ONE_THREAD, "1"),
                start_new_session=True,  # Ctrl-C is for the training process
            )
            self._end = weakref.finalize(self, _end_process, self._process)
        process, size = self._process, len(matrix)
        process.stdin.write(np.int64(size).tobytes() + matrix.tobytes())
        process.stdin.flush()
        answer = process.stdout.read(8 * size)
        if len(answer) < 8 * size:
            raise EOFError("the process that computes spectra has ended")
        return np.frombuffer(answer)


def _end_process(process: Any) -> None:
    """Closes the pipes, which ends the process, and waits for it."""
    try:
        process.stdin.close()
    except OSError:
        pass  # it has ended already
    process.wait()
    process.stdout.close()
