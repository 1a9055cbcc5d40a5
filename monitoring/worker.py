"""One thread that computes spectra and writes files while the training goes on."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from threadpoolctl import ThreadpoolController

LIMIT = 64 * 2**20  # bytes that may wait


class Worker:
    """Runs jobs one after the other on a thread of its own, in order; none is dropped.

    What a job raises is raised where the jobs are waited for. While a job runs, NumPy's
    linear algebra uses one core: on all of them it would stand in the training's way, which
    computes elsewhere.

    Args:
        limit: Bytes that the waiting jobs may hold together, a single job excepted.
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
        self._libraries = ThreadpoolController()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="monitoring")
        self._ident = self._pool.submit(threading.get_ident)
        self._pending: deque[tuple[Future, int]] = deque()

    def submit(self, job: Callable[[], object], size: int) -> None:
        """Takes a job that holds `size` bytes; waits where too many wait already.

        Raises:
            Exception: What an earlier job raised.
        """
        while self._pending and (self._pending[0][0].done() or self._held() + size > self._limit):
            self._pending.popleft()[0].result()
        self._pending.append((self._pool.submit(self._run, job), size))

    def drain(self) -> None:
        """Waits until every job is done; from within a job it returns at once.

        Raises:
            Exception: What the first failing job raised.
        """
        if threading.get_ident() == self._ident.result():
            return
        try:
            while self._pending:
                self._pending.popleft()[0].result()
        finally:
            # After an error: the other jobs are still done.
            while self._pending:
                self._pending.popleft()[0].exception()

    def close(self) -> None:
        """Waits until every job is done, and ends the thread.

        Raises:
            Exception: What the first failing job raised.
        """
        try:
            self.drain()
        finally:
            self._pool.shutdown()

    def _run(self, job: Callable[[], object]) -> None:
        with self._libraries.limit(limits=1, user_api="blas"):
            job()

    def _held(self) -> int:
        return sum(size for _, size in self._pending)
