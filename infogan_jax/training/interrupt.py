"""Signals that end a run after everything was saved."""

import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from infogan_jax import console
from infogan_jax.distributed import processes

# SIGHUP: a terminal that was closed; SIGUSR1, SIGUSR2, SIGXCPU: notices of SLURM, LSF
# and Grid Engine before they end a job
_NAMES = "SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"
_SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


class Stopped(Exception):
    """A signal ended the run after everything was saved."""

    def __init__(self, signum: int, step: int, workdir: Path):
        super().__init__(
            f"stopped by {signal.Signals(signum).name} after step {step:,}, all saved "
            f"in {workdir}; the same command continues"
        )
        self.exit_code = 128 + signum


class Interrupts:
    """Remembers the first signal to end; a second SIGINT raises at once.

    A signal that is ignored, as SIGHUP is behind nohup, stays so.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._former: dict[int, Any] = {}
        try:
            for signum in _SIGNALS:
                if signal.getsignal(signum) != signal.SIG_IGN:
                    self._former[signum] = signal.signal(signum, self._note)
        except ValueError:
            pass  # not in the main thread: the host program handles its signals

    def run(self, action: Callable, *inputs: Any) -> tuple[int, Any]:
        """Runs an action in a thread until it ends or a signal arrives.

        A signal to one of several processes is a signal to all. An action that was
        interrupted continues in its thread, to no effect; `main.py` does not wait for
        it. It must not execute programs on several devices, which might wait for each
        other.

        Returns:
            0 and the action's result, or the signal's number and None.
        """
        future = run_in_thread(action, *inputs)
        while True:
            signum, is_busy = processes.all_max(self.signum, not future.done())
            if signum:
                wait([future], timeout=0.5)  # it may be about to write a cache
                return signum, None
            if not is_busy:
                return 0, future.result()
            wait([future], timeout=0.1)

    def _note(self, signum: int, frame: Any) -> None:
        if self.signum and signum == signal.SIGINT:
            self.close()
            raise KeyboardInterrupt
        if self.signum:
            return  # a cluster may signal a group and each of its members
        self.signum = signum
        console.show(f"\n{signal.Signals(signum).name}: saving", is_fault=True)

    def close(self) -> None:
        for signum, handler in self._former.items():
            signal.signal(signum, handler)


def run_in_thread(action: Callable, *inputs: Any) -> Future:
    """Runs an action in a thread of its own, and returns its future result."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(action, *inputs)
    pool.shutdown(wait=False)
    return future
