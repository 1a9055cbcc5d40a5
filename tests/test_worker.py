"""The thread beside the training: in order, nothing dropped, errors raised."""

import threading
import time

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from monitoring.worker import Worker


def test_jobs_run_in_order_on_another_thread():
    done, worker = [], Worker()
    for number in range(20):
        worker.submit(lambda n=number: done.append((n, threading.get_ident())), size=1)
    worker.drain()
    assert [number for number, _ in done] == list(range(20))
    assert {ident for _, ident in done}.isdisjoint({threading.get_ident()})
    worker.close()


def test_it_waits_where_too_much_is_held_and_drops_nothing():
    held, most, done, worker = [0], [0], [], Worker(limit=100)

    def job(number):
        time.sleep(0.002)
        held[0] -= 40
        done.append(number)

    for number in range(30):
        held[0] += 40
        worker.submit(lambda n=number: job(n), size=40)
        most[0] = max(most[0], held[0])
    worker.close()
    assert done == list(range(30))
    assert most[0] <= 120  # two wait or run, one comes


def test_a_job_larger_than_the_limit_runs_alone():
    done, worker = [], Worker(limit=10)
    for number in range(3):
        worker.submit(lambda n=number: done.append(n), size=1000)
    worker.close()
    assert done == [0, 1, 2]


def test_the_first_error_is_raised_and_the_other_jobs_are_done():
    done, worker = [], Worker()

    def fails(text):
        raise OSError(text)

    worker.submit(lambda: fails("first"), size=1)
    with pytest.raises(OSError, match="first"):
        for number in range(1000):
            worker.submit(lambda n=number: done.append(n), size=1)
            time.sleep(0.001)
    worker.submit(lambda: fails("second"), size=1)
    worker.submit(lambda: fails("third"), size=1)
    worker.submit(lambda: done.append("last"), size=1)
    with pytest.raises(OSError, match="second"):
        worker.close()
    assert done[-1] == "last"


def test_a_job_may_ask_for_what_is_done():
    worker = Worker()
    worker.submit(worker.drain, size=1)
    worker.close()


def test_another_librarys_limit_of_threads_overlaps_jobs_and_is_given_back():
    """Two jobs, of two workers, begin before the limit and end within it, and the reverse."""

    def threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before, workers = threads(), [Worker(), Worker()]
    begun, ended = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

    def job(number):
        begun[number].set()
        assert ended[number].wait(10)

    workers[0].submit(lambda: job(0), size=1)
    assert begun[0].wait(10)
    with threadpool_limits(3 if before == {1} else 1, user_api="blas"):
        limited = threads()
        workers[1].submit(lambda: job(1), size=1)
        assert begun[1].wait(10)
        ended[0].set()
        workers[0].close()
        assert threads() == limited != before
    assert threads() == before
    ended[1].set()
    workers[1].close()
    assert threads() == before
