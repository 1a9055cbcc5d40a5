"""One thread that computes spectra and writes files while training continues."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

LIMIT = 64 * 2**20  # bytes that may be pending


class Worker:
    """Runs jobs one after another on a thread of its own; none is dropped.

    An error of a job is raised where the jobs are waited for.

    Args:
        limit: Bytes that all pending jobs may hold together; a single job may hold more.
            Defaults to 64 MB.

    Example:
        >>> done = []
        >>> worker = Worker()
        >>> for number in range(3):
        ...     worker.submit(lambda number=number: done.append(number), size=8)
        >>> worker.close()
        >>> done
        [0, 1, 2]
    """

    def __init__(self, limit: int = LIMIT):
        self._limit = limit
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="monitoring")
        self._ident = self._pool.submit(threading.get_ident)
        self._pending: deque[tuple[Future[object], int]] = deque()

    def submit(self, job: Callable[[], object], size: int) -> None:
        """Adds a job that holds `size` bytes; waits while too many bytes are pending.

        Raises:
            Exception: An error of an earlier job.
        """
        while self._pending and (
            self._pending[0][0].done() or self._pending_bytes() + size > self._limit
        ):
            self._pending.popleft()[0].result()
        self._pending.append((self._pool.submit(job), size))

    def drain(self) -> None:
        """Waits until every job is done; returns at once if called from a job.

        Raises:
            Exception: The error of the first job that failed.
        """
        if threading.get_ident() == self._ident.result():
            return
        try:
            while self._pending:
                self._pending.popleft()[0].result()
        finally:
            # After an error the other jobs are still done.
            while self._pending:
                self._pending.popleft()[0].exception()

    def close(self) -> None:
        """Waits until every job is done, and ends the thread.

        Raises:
            Exception: The error of the first job that failed.
        """
        try:
            self.drain()
        finally:
            self._pool.shutdown()

    def _pending_bytes(self) -> int:
        return sum(size for _, size in self._pending)
