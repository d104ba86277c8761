"""A lock on a work directory, so that it has one run at a time."""

import os
import platform
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from infogan_jax.errors import UserError
from infogan_jax.files import fcntl

LOCK_FILE = ".lock"


class Lock:
    """Keeps a second run out of a work directory; it ends with the process, too."""

    def __init__(self) -> None:
        self._file: IO[str] | None = None

    def take(self, workdir: Path) -> None:
        """Locks a directory that exists, in place of one that was locked before.

        Raises:
            UserError: another process has it.
        """
        self.close()
        if fcntl is None:
            raise UserError(
                f"--workdir={workdir}: Windows has no locks against a second run; "
                "train on Linux, macOS or WSL, or call the step functions"
            )
        path = workdir / LOCK_FILE
        # Do not follow a link: its target would be overwritten.
        how = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.fdopen(os.open(path, how, 0o666), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between the two calls a --restart may have moved the directory aside.
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError):
            file.seek(0)
            who = file.read().strip() or "another process"
            file.close()
            raise UserError(
                f"--workdir={workdir}: is in use by {who}; wait for it, or choose "
                "another folder"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        self._file = file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()  # releases the lock
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
