"""A user's folder of images: which files it has, and which of them make an image."""

import hashlib
import itertools
import os
import stat
from collections import deque
from pathlib import Path
from typing import NamedTuple

from infogan_jax.data.patterns import Pattern, split_channels
from infogan_jax.errors import UserError, some_of
from infogan_jax.settings import DataConfig

_PICTURES = ".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff"
MICROSCOPES = ".czi", ".lif", ".nd2", ".dcm", ".nii", ".nii.gz"
ARRAYS = ".npy", ".npz", ".h5", ".h5sc", ".hdf5", ".zarr"  # of many images, often
SUFFIXES = *_PICTURES, *ARRAYS, *MICROSCOPES
_FEW_IMAGES = 3  # of which names say little
_UNSORTED = "unsorted"  # label of images outside of any subfolder
_NO_IMAGES = {"@eaDir", "__MACOSX"}  # folders in which systems keep their own
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
_Identity = tuple[int, int]  # of a file or folder: its device, and its inode there


class Item(NamedTuple):
    """One image, in one file or in one for each channel."""

    name: str  # of the image, unique
    paths: tuple[Path, ...]
    label: str
    group: str
    place: int | None = None  # in a file of several images
    metadata: dict[str, str] = {}  # noqa: RUF012  such as its plate and well


class Listing(NamedTuple):
    """The files of a folder, none of them read yet."""

    items: list[Item]
    left_out: dict[str, str]  # image with a channel missing -> reason
    notes: list[str]  # lines about what was passed over
    channels: list[str]  # values of {channel}, empty if the pattern has none


def find(root: Path, config: DataConfig) -> Listing:
    """Lists the images below a folder, in the order of their names.

    Without `config.file_pattern` each file with a suffix of SUFFIXES is an image, and
    the subfolder of the root that it lies in is its label; where those are parts of a
    split, such as train and test, the one below. Hidden files are ignored.

    Raises:
        UserError: the folder cannot be read, or has no images; or the pattern is
            malformed.
    """
    paths, notes = walk(root)
    relatives = [path.relative_to(root) for path in paths]
    outer = {relative.parts[0] for relative in relatives}
    are_split = bool(outer) and outer <= _SPLITS
    if are_split:
        notes.append(
            f"subfolders {', '.join(sorted(outer))} are no labels, those below them "
            "are; what is held out is chosen anew"
        )
    images = [path for path in relatives if path.name.lower().endswith(SUFFIXES)]
    pattern = Pattern(config.file_pattern, images)
    parts: dict[str, dict[str, Path]] = {}
    about: dict[str, tuple[str, str, dict[str, str]]] = {}
    left_out: dict[str, str] = {}
    others: list[Path] = []
    for path, relative in zip(paths, relatives, strict=True):
        named = pattern.match(relative)
        if not path.name.lower().endswith(SUFFIXES) or named is None:
            others.append(relative)
            continue
        name, channel = named.image, named.channel
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = name.encode(errors="backslashreplace").decode()
            left_out[shown] = "a name that is not UTF-8"
            continue
        former = parts.setdefault(name, {}).setdefault(channel, path)
        if former != path:
            raise UserError(
                f"--file_pattern={config.file_pattern}: {former.relative_to(root)} and "
                f"{relative} are both channel {channel} of {name}; expected a pattern "
                "that tells images apart"
            )
        label = _label_of(relative.parts[:-1][are_split:])
        if named.label is not None:
            label = named.label or _UNSORTED
        about[name] = label, named.group or name, named.metadata
    if not parts:
        of = (
            f"that match --file_pattern={config.file_pattern}"
            if config.file_pattern
            else "of images"
        )
        raise UserError(
            f"{root}: has no files {of}; expected some of {sorted(SUFFIXES)}"
        )
    channels = _wanted(parts, config, pattern)
    items = []
    for name, files in parts.items():
        missing = [channel for channel in channels if channel not in files]
        if missing:
            left_out[name] = f"channel {', '.join(missing)} is missing"
        else:
            label, group, metadata = about[name]
            parts_of = tuple(files[c] for c in channels)
            items.append(Item(name, parts_of, label, group, None, metadata))
    if others:
        notes.append(_describe_others(others, config))
    return Listing(items, left_out, notes, [c for c in channels if c])


def check_no_channels(root: Path, items: list[Item]) -> None:
    """Raises UserError if names look as if each file were one channel of an image."""
    paths = [item.paths[0].relative_to(root) for item in items]
    found = split_channels(paths)
    if found and found[1] >= _FEW_IMAGES:
        form, images, channels = found
        raise UserError(
            f"{root}: names such as {paths[0]} look like {channels} channels of "
            f"{images} images: --file_pattern={form} takes them together, "
            "--file_pattern={id} each as an image"
        )


def _label_of(folders: tuple[str, ...]) -> str:
    """The first folder's name in one line, for tfds stores a label per line."""
    return (" ".join(folders[0].split()) if folders else "") or _UNSORTED


def _describe_others(others: list[Path], config: DataConfig) -> str:
    what = "end as images do"
    if config.file_pattern:
        what = f"match --file_pattern={config.file_pattern}"
    return _passed_over(len(others), f"that do not {what}", others)


def _passed_over(count: int, what: str, paths: list[Path]) -> str:
    return f"passed over: {count} {what}: {some_of(paths)}"


def walk(root: Path) -> tuple[list[Path], list[str]]:
    """Returns the files below a folder, in order, and lines about what was passed over.

    Links are followed. But each file and folder is taken once, by its own name rather
    than by a link to it, for images that are trained on and held out alike would
    measure nothing. Hidden files, folders in which systems keep their own, and the
    work directories of runs are no images.

    Raises:
        UserError: the folder cannot be read.
    """
    found = _Walk(root)
    try:
        found.enter(root)
    except OSError as error:
        raise UserError(f"{root}: cannot be read ({error.strerror})") from None
    found.follow_links()
    return sorted(found.files.values()), found.notes()


class _Walk:
    """The files below a folder, each once."""

    def __init__(self, root: Path):
        self._root = root
        self.files: dict[_Identity, Path] = {}
        around = root.resolve().parents
        self._folders = {_identity(folder.stat()) for folder in around}
        self._links: deque[Path] = deque()
        self._again: list[Path] = []  # links to, and names of, what is taken already
        self._runs: list[Path] = []
        self._systems: list[Path] = []
        self._unreadable: list[Path] = []

    def enter(self, folder: Path) -> None:
        """Takes all files of a folder that is no link, and of those below it.

        Raises:
            OSError: it cannot be read; those below it are noted if they cannot.
        """
        self._folders.add(_identity(folder.stat()))
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
        names = {entry.name for entry in inside}
        if {"config.json", "checkpoints"} <= names:
            self._runs.append(folder)
            return
        for entry in inside:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue  # macOS leaves some beside each file
            if entry.is_symlink():
                self._links.append(path)
            elif not entry.is_dir() or _is_array(path):
                self._take(path)
            elif entry.name in _NO_IMAGES:
                self._systems.append(path)
            else:
                self._try_to_enter(path)

    def follow_links(self) -> None:
        """Takes what links lead to, where it is not taken already."""
        while self._links:
            link = self._links.popleft()
            if not link.is_dir() or _is_array(link):
                self._take(link)
            elif _identity(link.stat()) in self._folders:
                self._again.append(link)
            else:
                self._try_to_enter(link)

    def _try_to_enter(self, folder: Path) -> None:
        try:
            self.enter(folder)
        except OSError:
            self._unreadable.append(folder)

    def _take(self, path: Path) -> None:
        try:
            about = path.stat()
            if not stat.S_ISREG(about.st_mode) and not _is_array(path):
                self._unreadable.append(path)  # a pipe would be waited for
                return
            identity = _identity(about)
        except OSError:  # a link that leads nowhere: reading it will say so
            identity = (-1, len(self.files))
        if self.files.setdefault(identity, path) != path:
            self._again.append(path)

    def notes(self) -> list[str]:
        """Returns lines about what was passed over."""
        table = {
            "further links and names of what is here": self._again,
            "work directories of runs": self._runs,
            "folders of a system's own files": self._systems,
            "that cannot be read": self._unreadable,
        }
        return [
            _passed_over(len(some), what, [p.relative_to(self._root) for p in some])
            for what, some in table.items()
            if some
        ]


def _is_array(path: Path) -> bool:
    """Whether a path is a Zarr array, which is a folder."""
    return path.name.lower().endswith(".zarr") and path.is_dir()


def _identity(about: os.stat_result) -> _Identity:
    return about.st_dev, about.st_ino


def digest(items: list[Item]) -> str:
    """Returns a digest that changes when a file is changed, added or removed."""
    total = hashlib.sha256()
    for item in items:
        for path in item.paths:
            try:
                about = path.stat()
                state = f"{about.st_size} {about.st_mtime_ns}"
            except OSError:  # such as a dangling link
                state = "missing"
            total.update(f"{item} {state}\n".encode())
    return total.hexdigest()


def _wanted(
    parts: dict[str, dict[str, Path]], config: DataConfig, pattern: Pattern
) -> list[str]:
    """The values of {channel} to read, in order."""
    has = sorted(set(itertools.chain.from_iterable(parts.values())))
    if not config.channels or not pattern.has_channels:
        return has
    wanted = [channel.strip() for channel in config.channels.split(",")]
    for channel in wanted:
        if channel not in has:
            raise UserError(
                f"--channels={config.channels}: no files of channel {channel}; "
                f"expected some of {has}"
            )
    return wanted
