"""Specifications of codes as strings, one item per kind.

    cat:10,uniform:2,noise:62
    cat:10:weight=1,uniform:2:weight=0.1:sigma=learned,bernoulli:3,noise:40

An item is `kind:size`, with options behind it. For `cat` the size is the number of
categories and for `noise` the number of dimensions; for the other kinds it is the
number of independent codes. Options: `weight`, the factor of this code's bound in
the objective; for `uniform` and `gaussian` `sigma`, the standard deviation of Q(c|x), a
number or `learned`; for `cat` `prior`, the probability of each category, all numbers
with commas between them, or `learned`, that is, estimated from real images.
"""

import dataclasses
import math
import re
from typing import Any

from infogan_jax.core.latents import (
    Bernoulli,
    Categorical,
    Gaussian,
    Noise,
    Spec,
    Uniform,
    check_frequencies,
)

# kind -> (class, whether the size is the width of one code; otherwise their number)
KINDS = {
    "bernoulli": (Bernoulli, False),
    "cat": (Categorical, True),
    "gaussian": (Gaussian, False),
    "noise": (Noise, True),
    "uniform": (Uniform, False),
}
_MAX_SIZE = 4096  # of one code: each category is a row of pictures
_MAX_CODES = 1024
_FORMS = {
    "prior": "prior=learned or prior=P,P,..",
    "sigma": "sigma=NUMBER",
    "weight": "weight=NUMBER",
}


def parse_spec(text: str) -> Spec:
    """The codes that a specification string describes.

    Codes are named after their kind, with a number from 1 where a kind occurs more
    than once: `cat:10,uniform:2` gives `cat`, `uniform1`, `uniform2`.

    Raises:
        ValueError: the text is empty or malformed; the message names the item.
    """
    expected = "expected kind:size[:option=value], such as 'cat:10,uniform:2,noise:62'"
    if not text.strip():
        raise ValueError(f"codes: the specification is empty; {expected}")
    makers: list[tuple[str, type, dict]] = []
    for item in re.split(r",(?!\s*[\d.])", text):  # a prior has commas of its own
        kind, *rest = (part.strip() for part in item.split(":"))
        if kind not in KINDS:
            raise ValueError(
                f"codes: unknown kind {kind!r} in {item.strip()!r}; "
                f"expected one of {sorted(KINDS)}"
            )
        cls, wide = KINDS[kind]
        smallest = 2 if kind == "cat" else 1
        if not rest or not rest[0].isascii() or not rest[0].isdecimal():
            raise ValueError(
                f"codes: {item.strip()!r} has no whole number for a size; {expected}"
            )
        # int() of a very long string is slow and refused; no such size is meant.
        size = int(rest[0]) if len(rest[0]) < 9 else _MAX_SIZE + 1
        if not smallest <= size <= _MAX_SIZE:
            raise ValueError(
                f"codes: the size in {item.strip()!r} is out of range; expected a "
                f"whole number from {smallest} to {_MAX_SIZE}"
            )
        parsed = [_option(cls, size, item.strip(), part) for part in rest[1:]]
        options = {name: value for some in parsed for name, value in some.items()}
        if len({part.partition("=")[0] for part in rest[1:]}) < len(rest) - 1:
            raise ValueError(f"codes: {item.strip()!r} gives an option twice")
        makers += (
            [(kind, cls, options | {"size": size})]
            if wide
            else ([(kind, cls, options)] * size)
        )
    if len(makers) > _MAX_CODES:
        raise ValueError(
            f"codes: {len(makers)} codes in {text!r}; expected {_MAX_CODES} at most"
        )
    kinds = [kind for kind, _, _ in makers]
    seen: dict[str, int] = {}
    spec = []
    for kind, cls, options in makers:
        seen[kind] = seen.get(kind, 0) + 1
        name = f"{kind}{seen[kind]}" if kinds.count(kind) > 1 else kind
        spec.append(cls(name=name, **options))
    return tuple(spec)


def _option(cls: type, size: int, item: str, text: str) -> dict[str, Any]:
    """The fields of a code that an option sets."""
    name, _, value = text.partition("=")
    fields = {field.name for field in dataclasses.fields(cls) if field.init}
    allowed = sorted(fields & {"weight", "sigma", "prior"})
    if name not in allowed:
        raise ValueError(
            f"codes: unknown option {text!r} in {item!r}; this kind takes "
            + (" and ".join(_FORMS[a] for a in allowed) or "none")
        )
    if name == "prior":
        return _prior(value, size, item)
    if (name, value) == ("sigma", "learned"):
        return {name: None}
    number = _number(value)
    if not (math.isfinite(number) and number >= 0 and (number or name == "weight")):
        raise ValueError(
            f"codes: {text!r} in {item!r} is not a usable number; expected a "
            + (
                "weight of 0 or more"
                if name == "weight"
                else "sigma above 0, or 'learned'"
            )
        )
    return {name: number}


def _prior(value: str, size: int, item: str) -> dict[str, Any]:
    if value == "learned":
        return {"is_prior_learned": True}
    frequencies = tuple(_number(part) for part in value.split(","))
    try:
        check_frequencies(frequencies, size)
    except ValueError as error:
        raise ValueError(f"codes: the prior in {item!r} has {error}") from None
    total = math.fsum(frequencies)
    return {"prior": tuple(f / total for f in frequencies)}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
