"""Executors of the runs of a study: one by one, in several processes, or by Ray on other machines."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from lab.study import StudyError
from pairsift._base.checks import first_line
from pairsift._base.process import on_ray

T = TypeVar("T")
# Arguments of a function, which other processes can unpickle.
Call = tuple[Any, ...]


def one_by_one(work: Callable[..., T], calls: Iterable[Call]) -> Generator[T, None, None]:
    """Yield results in the order of the calls."""
    for arguments in calls:
        yield work(*arguments)


def by_processes(work: Callable[..., T], calls: Iterable[Call], jobs: int) -> Generator[T, None, None]:
    """Yield results of several processes of this machine as they come.

    Raises:
        StudyError: a process ended abruptly. Errors of the work are raised too.
    """
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))
    try:
        waiting: set[Future[T]] = set()
        tasks = iter(calls)
        waiting |= {pool.submit(work, *arguments) for arguments in itertools.islice(tasks, 2 * jobs)}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
                waiting |= {pool.submit(work, *arguments) for arguments in itertools.islice(tasks, 1)}
        pool.shutdown()
    except BrokenProcessPool as error:
        raise StudyError("a process ended abruptly, for lack of memory perhaps: lower --jobs") from error
    finally:
        # After an error or Ctrl-C the results of running processes are not needed. The pool is waited for: its thread
        # would close pipes that Python's exit still writes to.
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(cancel_futures=True)


def by_ray(work: Callable[..., T], calls: Iterable[Call], jobs: int, address: str | None) -> Generator[T, None, None]:
    """Yield results of tasks of a Ray cluster as they come. Tasks of a lost machine start again.

    Args:
        work: function of a module that the machines of the cluster can import.
        calls: arguments of the function.
        jobs: tasks at a time, with a core each.
        address: address of the cluster; see `on_ray`.

    Raises:
        MissingExtraError: Ray is not installed.
        StudyError: the cluster is not there. Errors of the work are raised too.
    """
    # Workers take data from the same folder as this process.
    told = {name: os.environ[name] for name in ("PAIRSIFT_DATA",) if name in os.environ}
    with on_ray(address, told, StudyError) as ray:
        task = ray.remote(num_cpus=1)(work)
        waiting: list[Any] = []
        try:
            tasks = iter(calls)
            waiting += [task.remote(*arguments) for arguments in itertools.islice(tasks, jobs)]
            while waiting:
                done, waiting = ray.wait(waiting, num_returns=1)
                yield ray.get(done[0])
                waiting += [task.remote(*arguments) for arguments in itertools.islice(tasks, 1)]
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise (
                cause if isinstance(cause, StudyError) else StudyError(f"a run was lost on Ray: {first_line(cause)}")
            ) from None
        finally:
            for each in waiting:
                ray.cancel(each, force=True)
