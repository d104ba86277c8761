"""How many cores there are, and work that all of them share."""

import functools
import itertools
import logging
import math
import os
import signal
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

_AHEAD = 8  # calls for each core that are under way or wait to be taken
_TRIED = 3  # inputs whose time says how long all take; the first one imports packages
_MIN_SECONDS = 4  # of work for which it pays to start processes
_CALL_SECONDS = 0.1  # of work in one call of a process


def core_count() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(function: Callable, inputs: Sequence, threads: int = 0) -> Iterator:
    """Yields the function of each input, in order, from all cores, a few ahead.

    Threads compute it; or, if it takes long, processes, for Python's own share of the
    work is one thread's at a time. What the function refers to and returns is copied.

    Args:
        function: takes an input.
        inputs: such as files.
        threads: how many, at most; 0: one for each core.
    """
    took = []
    for x in inputs[:_TRIED]:
        begin = time.perf_counter()
        result = function(x)
        took.append(time.perf_counter() - begin)
        yield result
    rest = inputs[_TRIED:]
    if not rest:
        return
    each = statistics.median(took)
    if each * len(rest) > _MIN_SECONDS and core_count() > 1:
        size = math.ceil(_CALL_SECONDS / each)
        chunks = (rest[i : i + size] for i in range(0, len(rest), size))
        submit = functools.partial(_submit_to_processes, _processes(), function)
        yield from itertools.chain.from_iterable(_ahead(submit, chunks))
        return
    with ThreadPoolExecutor(threads or core_count()) as pool:
        yield from _ahead(functools.partial(pool.submit, function), rest)


def _ahead(submit: Callable[[Any], Future], inputs: Iterable) -> Iterator:
    """Yields what calls return, in order, with so many under way that no core waits."""
    waiting: deque[Future] = deque()
    try:
        for x in inputs:
            waiting.append(submit(x))
            if len(waiting) > _AHEAD * core_count():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _submit_to_processes(
    pool: Executor, function: Callable, inputs: Sequence
) -> Future:
    """Submits the function of each input; processes that start leave Ctrl-C to us."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(_all, function, inputs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _processes() -> Executor:
    """A process for each core, which ends when it has been idle for some seconds."""
    from joblib.externals.loky import get_reusable_executor  # rarely needed

    return get_reusable_executor(
        core_count(), initializer=_follow, initargs=(os.getpid(),)
    )


def _follow(parent: int) -> None:
    """Has this process say nothing, and end when its parent does, however that ends."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)

    logging.disable()
    threading.Thread(target=watch, daemon=True).start()


def _all(function: Callable, inputs: Sequence) -> list:
    return [function(x) for x in inputs]
