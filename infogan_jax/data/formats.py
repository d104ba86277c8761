"""Files of arrays: TIFF, NumPy, HDF5, Zarr, NIfTI, DICOM, and those of microscopes.

Each reader gives the array, the letters of its axes (`axes.py`), the names of its
channels and the size of a pixel, as far as the file says them. What a file is, its
content tells; its name says nothing.
"""

import contextlib
import importlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from infogan_jax.data.axes import Sliceable, check_size
from infogan_jax.data.pictures import UNREADABLE, read_picture

_TO_MICROMETRES = {
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **dict.fromkeys(("cm", "centimeter"), 1e4),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("um", "µm", "μm", "micron", "micrometer", "micrometre"), 1.0),
    "\\u00b5m": 1.0,  # as ImageJ writes it
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
}


class Stored(NamedTuple):
    """An array in a file, and what the file says about it."""

    array: Sliceable
    axes: str = ""  # a letter each; empty, or unknown letters: the file does not say
    channels: tuple[str, ...] = ()  # names
    pixel_size: float | None = None  # micrometres


_CELLS = "obsm/single_cell_images"  # of scPortrait
_NEW_PYTHON = "czifile", "liffile"  # which have no versions for Python 3.11
# Opens a file, or the folder of a Zarr array, by its path and the name of the array
# where it holds several. Raises ValueError with the reason why it cannot be used.
Reader = Callable[[Path, str], contextlib.AbstractContextManager[Stored]]


def reader_of(path: Path) -> Reader | None:
    """Returns what reads a file of an array; None if it is of no such kind."""
    if path.is_dir():
        return _zarr
    with path.open("rb") as file:
        start = file.read(400)
    for magic, reader in _MAGIC.items():
        if start.startswith(magic):
            return reader
    if start[128:132] == b"DICM":
        return _dicom
    if start[344:347] in (b"n+1", b"ni1") or path.name.lower().endswith(".nii.gz"):
        return _nifti
    return None


def import_reader(module: str, kind: str) -> Any:
    """Returns an optional module that reads a kind of file.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        new = ", with Python 3.12 or newer" if module in _NEW_PYTHON else ""
        raise ValueError(
            f"a file of {kind}, for which {module} is needed: pip install "
            f"'infogan_jax[microscopy]'{new}"
        ) from None


def micrometres(size: float | None, unit: str | None) -> float | None:
    """Returns a length in micrometres; None if it is not known."""
    factor = _TO_MICROMETRES.get((unit or "").lower())
    return size * factor if size and factor else None


# TIFF


@contextlib.contextmanager
def _tiff(path: Path, name: str) -> Iterator[Stored]:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            if _has_other_colours(file):
                stored = Stored(read_picture(path), "YXC")
            else:
                stored = _stored_tiff(file)
    except (tifffile.TiffFileError, KeyError, IndexError, RuntimeError):
        raise ValueError(UNREADABLE) from None
    yield stored


def _has_other_colours(file: Any) -> bool:
    """Whether colours are in a form that Pillow makes red, green and blue."""
    import tifffile

    page, kinds = file.pages.first, tifffile.PHOTOMETRIC
    is_ink = page.photometric == kinds.SEPARATED and page.tags.valueof("InkSet", 1) == 1
    # tifffile decodes JPEG's to red, green and blue
    is_ycbcr = page.photometric == kinds.YCBCR and page.compression not in (6, 7)
    is_palette = page.photometric == kinds.PALETTE
    return len(file.pages) == 1 and (is_ink or is_ycbcr or is_palette)


def _stored_tiff(file: Any) -> Stored:
    import tifffile

    whole = [s for s in file.series if not s.keyframe.is_reduced]
    if len(whole) > 1:
        shapes = ", ".join(f"{s.shape} {s.dtype}" for s in whole)
        raise ValueError(f"{len(whole)} series ({shapes}); save each as a file")
    series, pages = (whole or file.series)[0], len(file.pages)
    page, kinds = series.keyframe, tifffile.PHOTOMETRIC
    if page.photometric in (kinds.CIELAB, kinds.ICCLAB, kinds.ITULAB):
        raise ValueError("CIELAB colours; save it as RGB")
    check_size(series.shape)
    if len(series.pages) > pages:  # the others are in other files
        image, axes = np.stack([p.asarray() for p in file.pages]), f"C{page.axes}"
    else:
        image, axes = series.asarray(), series.axes
    if page.bitspersample == 1:
        image = bits_to_bytes(image)
    if page.photometric == kinds.MINISWHITE:
        image = _invert(image)
    turn = page.tags.valueof("Orientation", 1)
    if turn != 1:
        image = _turn(image, axes, turn)
    return Stored(image, axes, *_about_tiff(file))


def bits_to_bytes(image: np.ndarray) -> np.ndarray:
    """Returns 0 and 255 for bits."""
    return np.where(image, np.uint8(255), np.uint8(0))


def _invert(image: np.ndarray, top: int | None = None) -> np.ndarray:
    if image.dtype.kind != "u":
        raise ValueError(f"0 is white, in values of type {image.dtype}; invert it")
    return (np.iinfo(image.dtype).max if top is None else top) - image


def _turn(image: np.ndarray, axes: str, orientation: int) -> np.ndarray:
    """Turns an image upright by EXIF's orientation, 1 to 8."""
    down, across = axes.index("Y"), axes.index("X")
    if orientation >= 5:
        image = image.swapaxes(down, across)
    if orientation in (2, 3, 6, 7):
        image = np.flip(image, across)
    if orientation in (3, 4, 7, 8):
        image = np.flip(image, down)
    return image


def _about_tiff(file: Any) -> tuple[tuple[str, ...], float | None]:
    """Names of channels and the size of a pixel, by OME's or ImageJ's metadata."""
    if file.ome_metadata:
        try:
            root = ElementTree.fromstring(file.ome_metadata)
        except ElementTree.ParseError:
            return (), None  # tifffile then takes the pages as they are
        pixels = root.find("{*}Image/{*}Pixels")
        if pixels is None:
            return (), None
        names = tuple(c.get("Name", "") for c in pixels.iterfind("{*}Channel"))
        size, unit = pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit", "µm")
        length = None  # unless it is a number
        with contextlib.suppress(ValueError):
            length = float(size or "")
        return names if all(names) else (), micrometres(length, unit)
    if file.imagej_metadata:
        tags = file.pages.first.tags
        count, length = tags.valueof("XResolution", (0, 1))
        unit = file.imagej_metadata.get("unit", "")
        return (), micrometres(length / count if count else None, unit)
    return (), None


# NumPy, HDF5, Zarr


@contextlib.contextmanager
def _npy(path: Path, name: str) -> Iterator[Stored]:
    try:
        yield Stored(np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError as error:
        if "mmap length" in str(error):
            raise ValueError("a truncated file") from None
        raise


@contextlib.contextmanager
def _npz(path: Path, name: str) -> Iterator[Stored]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except zipfile.BadZipFile:
        raise ValueError("a truncated file") from None
    yield Stored(_choose(arrays, name))


@contextlib.contextmanager
def _hdf5(path: Path, name: str) -> Iterator[Stored]:
    h5py = import_reader("h5py", "HDF5")
    arrays: dict[str, Any] = {}

    def note(key: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[key] = item

    with h5py.File(path) as file:
        file.visititems(note)
        if not name and _CELLS in arrays:
            yield _stored_cells(arrays[_CELLS])
        else:
            yield Stored(_choose(arrays, name))


class _SomeChannels:
    """An array `[N, C, H, W]` in a file, of which only some channels are read."""

    def __init__(self, array: Any, chosen: list[int]):
        self._array, self._chosen = array, chosen
        self.shape = (len(array), len(chosen), *array.shape[2:])

    def __getitem__(self, places: tuple) -> np.ndarray:
        place, channels, *rest = places
        return self._array[(place, self._chosen, *rest)][channels]


def _stored_cells(array: Any) -> Stored:
    """The cells of scPortrait's h5sc, without the masks that stand before channels."""
    names, kinds = (
        [x.decode() if isinstance(x, bytes) else str(x) for x in array.attrs.get(k, ())]
        for k in ("channel_names", "channel_mapping")
    )
    kinds = kinds or ["image_channel"] * array.shape[1]
    chosen = [i for i, kind in enumerate(kinds) if kind != "mask"]
    channels = tuple(names[i] for i in chosen) if names else ()
    return Stored(_SomeChannels(array, chosen), "NCYX", channels)


def _choose(arrays: dict[str, Any], name: str) -> Any:
    """The array of a name; without one, the only array of images."""
    images = {
        key: array
        for key, array in arrays.items()
        if array.ndim >= 2 and array.dtype.kind in "uifb"
    }
    if name and name not in images:
        raise ValueError(f"no array {name} (--array_name); it has {sorted(images)}")
    if not name and len(images) != 1:
        has = f"arrays {sorted(images)}" if images else "no array of images"
        raise ValueError(f"{has}; --array_name=NAME chooses one")
    return images[name or next(iter(images))]


@contextlib.contextmanager
def _zarr(path: Path, name: str) -> Iterator[Stored]:
    """An array, or the full resolution of an image in OME-Zarr."""
    zarr = import_reader("zarr", "Zarr")
    try:
        root = zarr.open(str(path), mode="r")
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{UNREADABLE} ({error})") from None
    if isinstance(root, zarr.Array):
        yield Stored(root)
        return
    about = dict(root.attrs)
    about = about.get("ome", about)
    if "multiscales" not in about:
        arrays = dict(root.arrays())
        yield Stored(_choose(arrays, name))
        return
    scales = about["multiscales"][0]
    full = scales["datasets"][0]
    axes = [
        axis if isinstance(axis, dict) else {"name": axis} for axis in scales["axes"]
    ]
    changes = full.get("coordinateTransformations", [])
    scale = next((c["scale"] for c in changes if c["type"] == "scale"), None)
    names = [c.get("label", "") for c in about.get("omero", {}).get("channels", [])]
    yield Stored(
        root[full["path"]],
        "".join(axis["name"].upper() for axis in axes),
        tuple(names) if all(names) else (),
        micrometres(scale[-1] if scale else None, axes[-1].get("unit")),
    )


# Medicine


@contextlib.contextmanager
def _nifti(path: Path, name: str) -> Iterator[Stored]:
    nibabel = import_reader("nibabel", "NIfTI")
    try:
        image = nibabel.load(path)
    except nibabel.filebasedimages.ImageFileError:
        raise ValueError(UNREADABLE) from None
    check_size(image.shape)
    length, _ = image.header.get_xyzt_units()
    size = micrometres(float(image.header.get_zooms()[0]), length)
    # nibabel's scaling makes everything float64, also where there is none.
    has_scale = image.dataobj.slope != 1 or image.dataobj.inter != 0
    array = np.asarray(image.dataobj) if has_scale else image.dataobj.get_unscaled()
    yield Stored(np.asarray(array), "XYZTC"[: array.ndim], (), size)


@contextlib.contextmanager
def _dicom(path: Path, name: str) -> Iterator[Stored]:
    pydicom = import_reader("pydicom", "DICOM")
    dataset = pydicom.dcmread(path)
    try:
        image = dataset.pixel_array
    except (AttributeError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{UNREADABLE} ({error})") from None
    has_colours = int(dataset.get("SamplesPerPixel", 1)) > 1
    has_frames = image.ndim > 2 + has_colours
    axes = "Z" * has_frames + "YX" + "S" * has_colours
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        image = _invert(image, (1 << int(dataset.BitsStored)) - 1)
    spacing = dataset.get("PixelSpacing")
    yield Stored(
        image, axes, (), micrometres(float(spacing[1]), "mm") if spacing else None
    )


# Microscopes


@contextlib.contextmanager
def _czi(path: Path, name: str) -> Iterator[Stored]:
    czifile = import_reader("czifile", "Zeiss (CZI)")
    with czifile.CziFile(path) as file:
        scenes = list(file.scenes.values())
        if len(scenes) != 1:
            raise ValueError(f"{len(scenes)} scenes; export each as a file")
        [image] = scenes
        check_size(image.shape)
        names = [str(name) for name in image.coords.get("C", [])]
        if any(name.startswith("Channel:") for name in names):
            names = []  # Zeiss's own numbers
        size = micrometres(image.coord_scales.get("X"), image.coord_units.get("X"))
        yield Stored(image.asarray(), "".join(image.dims), tuple(names), size)


@contextlib.contextmanager
def _lif(path: Path, name: str) -> Iterator[Stored]:
    liffile = import_reader("liffile", "Leica (LIF)")
    with liffile.LifFile(path) as file:
        if len(file.images) != 1:
            raise ValueError(f"{len(file.images)} images; export each as a file")
        image = file.images[0]
        check_size(image.shape)
        yield Stored(image.asarray(), "".join(image.dims))


@contextlib.contextmanager
def _nd2(path: Path, name: str) -> Iterator[Stored]:
    nd2 = import_reader("nd2", "Nikon (ND2)")
    with nd2.ND2File(path) as file:
        check_size(file.shape)
        axes = "".join("N" if axis == "P" else axis for axis in file.sizes)
        names = [c.channel.name for c in getattr(file.metadata, "channels", None) or []]
        yield Stored(file.asarray(), axes, tuple(names), file.voxel_size().x or None)


# Of which a part can be read without the rest.
READ_IN_PARTS: tuple[Reader, ...] = (_npy, _hdf5, _zarr)
_MAGIC: dict[bytes, Reader] = {
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
    b"\x93NUMPY": _npy,
    b"PK\x03\x04": _npz,
    b"\x89HDF\r\n\x1a\n": _hdf5,
    b"ZISRAWFILE": _czi,
    b"\x70\0\0\0": _lif,
    b"\xda\xce\xbe\x0a": _nd2,
}
