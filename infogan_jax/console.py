"""Words on the terminal, for which no run may end."""

import contextlib
import os
import sys
from typing import TextIO


def show(text: str, end: str = "\n", *, is_fault: bool = False) -> None:
    """Prints a text, or drops it where nobody can read it.

    What the output's encoding lacks is escaped. An output that is closed, or whose disk
    is full, is given up for good.

    Args:
        text: what to print.
        end: what to print behind it.
        is_fault: to standard error in place of standard output.
    """
    stream = sys.stderr if is_fault else sys.stdout
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(text, end=end, file=stream, flush=True)
    except RuntimeError:  # a signal came in the middle of another print
        pass
    except (OSError, ValueError):  # ValueError: it was closed
        _give_up(stream)


def is_terminal() -> bool:
    """Returns whether standard output is a terminal."""
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):  # there is none, or it was closed or replaced
        return False


def _give_up(stream: TextIO) -> None:
    """Sends what is still to come, and what is in the stream's buffer, nowhere."""
    with contextlib.suppress(OSError, ValueError):  # it has no file, or was closed
        descriptor = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
