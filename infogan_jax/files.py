"""Writing files whole or not at all, and names that are free."""

import contextlib
import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Writes a whole file, or leaves what is there.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        if isinstance(content, str):
            # A path in the text may hold bytes that are not Unicode.
            content = content.encode(errors="backslashreplace")
        part.write_bytes(content)
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def remove_partial_files(folder: Path) -> None:
    """Removes what `write_atomically` left when its process was killed."""
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)


def next_free_name(path: Path) -> Path:
    """Returns the first of `PATH.1`, `PATH.2` and so on that does not exist."""
    number = 1
    while (candidate := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return candidate
