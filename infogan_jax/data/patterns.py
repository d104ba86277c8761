"""Names of files as patterns: which channel of which image a file is.

{id} tells images apart, and so do {plate}, {well}, {site} and what * matches; {channel}
tells files of one image apart; {label} and {group} say what they say; {_} is anything,
and says nothing. {row} and {column} are a well: row 2, column 3 is B03.
"""

import itertools
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from infogan_jax.errors import UserError
from infogan_jax.settings.data import PRESETS

_PLACES = "plate", "well", "row", "column", "site"  # on a plate, which also tell apart
FIELDS = "id", "channel", "label", "group", *_PLACES, "_"
_NO_FILE = re.compile(r"_thumb|_cp_masks|_seg\.npy$", re.IGNORECASE)  # of presets


_CHANNEL = re.compile(r"([_ -](?:ch|channel|c|w))\d{1,2}(\.[\w.]+)$", re.IGNORECASE)
_MOST_CHANNELS = 6  # files of an image, where nobody says that they are channels


class Named(NamedTuple):
    """What a file's name says."""

    image: str  # unique
    channel: str = ""
    label: str | None = None
    group: str | None = None
    metadata: dict[str, str] = {}  # noqa: RUF012  of plate, well, site


class Pattern:
    """A pattern, or what a preset stands for."""

    def __init__(self, pattern: str, paths: list[Path]):
        """
        Args:
            pattern: of `config.file_pattern`.
            paths: of all files, relative to their folder, to choose a preset's form by.

        Raises:
            UserError: it is malformed.
        """
        self._is_preset = pattern in PRESETS
        self._text, self._regex = pattern, None
        if pattern and not self._is_preset:
            self._regex = _compile(pattern)
        for form in PRESETS.get(pattern, ()):
            self._text, self._regex = form, _compile(form, re.IGNORECASE)
            if any(self.match(path) for path in paths):
                break

    @property
    def has_channels(self) -> bool:
        return "{channel}" in self._text

    def match(self, relative: Path) -> Named | None:
        """What a file's name says; None if it does not fit."""
        if self._regex is None:
            return Named(relative.as_posix())
        if self._is_preset and _NO_FILE.search(relative.name):
            return None
        text = relative.as_posix() if "/" in self._text else relative.name
        match = self._regex.fullmatch(text)
        if match is None:
            return None
        fields = match.groupdict()
        places = _places(fields)
        group = fields.get("group")
        if group is None and "well" in places:
            group = "/".join(places[k] for k in ("plate", "well") if k in places)
        label = fields.get("label", "" if places else None)
        channel = fields.get("channel", "")
        name = _name_of(relative, match) if channel else relative.as_posix()
        return Named(name, channel, label, group, places)


def split_channels(paths: list[Path]) -> tuple[str, int, int] | None:
    """Returns how names seem to tell channels of one image apart, where they do.

    Args:
        paths: of all images, relative to their folder.

    Returns:
        A preset or pattern; how many images there are, and how many channels of each.
    """
    forms = [name for name in PRESETS if "{channel}" in PRESETS[name][0]]
    found = (_CHANNEL.search(path.name) for path in paths)
    ends = Counter(match.groups() for match in found if match)
    forms += [f"{{id}}{mark}{{channel}}{end}" for (mark, end), _ in ends.most_common(1)]
    for form in forms:
        pattern = Pattern(form, paths)
        images: dict[str, set[str]] = {}
        for path in paths:
            if named := pattern.match(path):
                images.setdefault(named.image, set()).add(named.channel)
        counts = {len(channels) for channels in images.values()}
        are_most = 2 * sum(map(len, images.values())) >= len(paths)
        if are_most and len(counts) == 1 and 1 < max(counts) <= _MOST_CHANNELS:
            return form, len(images), max(counts)
    return None


def _places(fields: dict[str, str]) -> dict[str, str]:
    """Plate, well and site, in the form in which tables are read."""
    places = {k: fields[k] for k in ("plate", "well", "site") if k in fields}
    if "row" in fields and "column" in fields:
        row = fields["row"]
        letter = chr(ord("A") + int(row) - 1) if row.isdigit() else row
        places["well"] = letter + fields["column"]
    return {name: plain_value(name, value) for name, value in places.items()}


def plain_value(name: str, value: str) -> str:
    """Returns a value as values are compared: B3 is well B03, site 01 is site 1."""
    text = value.strip()
    if name == "well" and (match := re.fullmatch(r"([A-Za-z]{1,2})0*(\d+)", text)):
        return f"{match[1].upper()}{int(match[2]):02d}"
    if name == "site" and text.isdigit():
        return str(int(text))
    return text


def _compile(pattern: str, flags: int = 0) -> re.Pattern:
    """Returns a pattern such as {id}_ch{channel}.tif as a regular expression."""
    regex, stars = "", itertools.count()
    for text, field in re.findall(r"([^{}]*)(?:\{([^{}]*)\})?", pattern):
        regex += re.sub(
            r"\\\*", lambda _: f"(?P<_{next(stars)}>[^/]*)", re.escape(text)
        )
        if field and field not in FIELDS:
            raise UserError(
                f"--file_pattern={pattern}: {{{field}}}; expected {FIELDS}, or one of "
                f"{', '.join(PRESETS)}"
            )
        if field == "_":
            regex += "[^/]*?"
        elif field:
            regex += f"(?P<{field}>[^/]+?)"
    tells_apart = any(f"{{{k}}}" in pattern for k in ("id", *_PLACES))
    is_twice = any(pattern.count(f"{{{k}}}") > 1 for k in FIELDS[:-1])
    if not tells_apart or is_twice:
        raise UserError(
            f"--file_pattern={pattern}: expected {{id}}, and no field twice"
        )
    return re.compile(regex, flags)


def _name_of(relative: Path, match: re.Match) -> str:
    """A unique name of an image: slides may number their cells alike."""
    fields = match.groupdict()
    stars = [key for key in fields if key.startswith("_")]
    order = "label", "group", *_PLACES, *stars, "id"
    known = [fields[k] for k in order if k in fields]
    folder = relative.parent.as_posix()
    begin, end = match.span("channel")
    if match.string == relative.as_posix() and end <= len(folder):
        folder = folder[:begin] + folder[end:]  # one subfolder per channel
    return Path(folder, *known).as_posix()
