"""Files that are whole or not there, locks between processes, and free names."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def cache_folder() -> Path:
    """The user's folder of what can be made again; it may not be there yet."""
    return Path(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "infogan_jax"
    ).expanduser()


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Writes a whole file, or leaves what is there, even if the machine stops.

    Raises:
        OSError: it cannot be written.
    """
    if isinstance(content, str):
        # A path in the text may hold bytes that are not Unicode.
        content = content.encode(errors="backslashreplace")
    with replacing(path) as part:
        part.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the path of a file to write, which then takes the place of `path`.

    After an error `path` is as it was.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: two processes may write the same file.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def remove_partial_files(folder: Path) -> None:
    """Removes what `write_atomically` left when its process was killed.

    Only who holds the folder's lock may call it: others' files are in the making.
    """
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until no other process holds the lock of this name, and holds it.

    On Windows there is none, and two processes may be in each other's way.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def next_free_name(path: Path) -> Path:
    """Returns the first of `PATH.1`, `PATH.2` and so on that does not exist."""
    number = 1
    while (candidate := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return candidate
