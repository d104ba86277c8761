"""What a user did wrong, in one line, and the helpers that word it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

SHOWN = 5  # names, or reasons, that one line holds
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"  # how XLA names a device without free memory


class UserError(Exception):
    """A mistake that the user can mend: one line with the value and the cure."""


def first_line(error: BaseException) -> str:
    """First line of an exception's message, or its class name if empty."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def some_of(names: Sequence[object]) -> str:
    """The first names of what may be many, in a line."""
    return ", ".join(map(str, names[:SHOWN])) + (", .." if len(names) > SHOWN else "")


def check_is_new(flag: str, path: Path) -> None:
    """Raises UserError if there is anything at the path that a flag names."""
    if path.exists() or path.is_symlink():
        raise UserError(f"--{flag}={path}: exists already; choose another name")


def check_one_of(flag: str, value: str, allowed: Iterable[str]) -> None:
    """Raises UserError unless `allowed` holds the value of a flag."""
    if value not in (names := sorted(allowed)):
        raise UserError(f"--{flag}={value}: expected one of {names}")


def expand_path(flag: str, value: str) -> Path:
    """Returns the path that a flag names, with `~` replaced by the home folder.

    Raises:
        UserError: there is no such home.
    """
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise UserError(f"--{flag}={value}: {error}") from None
