"""What a setting is made of: its default, its help text and its limits."""

import dataclasses
import math
import re
from collections.abc import Iterable
from typing import Any

INT32_END = 2**31  # the first number that an int32 cannot hold


def field(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    most: float | None = None,
    below: float | None = None,
    changeable: bool = False,
) -> Any:
    """A setting; numbers are from `least` to `most`, or less than `below`."""
    about = {"help": help, "least": least, "most": most, "below": below}
    return dataclasses.field(
        default=default, metadata=about | {"changeable": changeable}
    )


def numbers_in(text: str) -> list[float]:
    """The numbers in a text, by commas; raises ValueError if one is not finite."""
    numbers = [float(part) for part in text.split(",")]
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError
    return numbers


def as_number(text: str) -> float | None:
    """The number that a text is; None if it is none, or not finite."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def plain_name(column: str) -> str:
    """The name of a table's column as names are compared."""
    return re.sub("^metadata_", "", column.strip(), flags=re.IGNORECASE).lower()


def axis_letters(text: str) -> str:
    """Letters of axes with H and W as Y and X; raises ValueError if they are none."""
    letters = text.upper().replace("H", "Y").replace("W", "X")
    is_once = len(set(letters)) == len(letters)
    if not (is_once and set("YX") <= set(letters) <= set("NTZCYX")):
        raise ValueError
    return letters


def any_of(table: Iterable[str]) -> str:
    *names, last = table
    return f"{', '.join(names)} or {last}"
