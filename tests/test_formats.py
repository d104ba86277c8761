"""Files of arrays: their axes are read, not guessed."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from infogan_jax import Config, UserError
from infogan_jax.data import load
from infogan_jax.data.axes import Reading, find_axes, take
from infogan_jax.data.decode import count_in_file, read_file
from infogan_jax.data.folder import expand, read
from infogan_jax.data.listing import Item
from tests.test_folder import config_of, save

NAMES = ["DNA", "actin", "pathogen"]


def volume(depths: int = 7) -> np.ndarray:
    """Channels, depths, rows, columns."""
    shape = (3, depths, 20, 24)
    return np.random.default_rng(0).integers(0, 4096, shape, np.uint16)


def write_ome(path, array, axes):
    size = {"PhysicalSizeX": 0.325, "PhysicalSizeXUnit": "µm"}
    about = {"axes": axes, "Channel": {"Name": NAMES}, **size}
    tifffile.imwrite(path, array, ome=True, photometric="minisblack", metadata=about)


def write_imagej(path, array, axes):
    about = {"axes": axes, "unit": "um"}
    tifffile.imwrite(path, array, imagej=True, resolution=(4, 4), metadata=about)


def write_hdf5(path, array):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["group/images"] = array
        file["wells"] = np.arange(3)


def write_ome_zarr(path, array, axes):
    zarr = pytest.importorskip("zarr")
    root = zarr.create_group(str(path))
    root.create_array("0", shape=array.shape, dtype=array.dtype)[:] = array
    scale = [1.0] * (array.ndim - 1) + [325.0]
    scales = {
        "axes": [{"name": a.lower(), "unit": "nanometer"} for a in axes],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [{"type": "scale", "scale": scale}],
            }
        ],
    }
    channels = [{"label": name} for name in NAMES]
    root.attrs["ome"] = {"multiscales": [scales], "omero": {"channels": channels}}


CZYX = volume()
WRITERS = {
    "tczyx.ome.tif": lambda path: write_ome(path, CZYX[None], "TCZYX"),
    "zcyx.tif": lambda path: write_imagej(path, CZYX.swapaxes(0, 1), "ZCYX"),
    "czyx.tif": lambda path: tifffile.imwrite(path, CZYX, metadata={"axes": "CZYX"}),
    "a.npy": lambda path: np.save(path, CZYX),
    "a.npz": lambda path: np.savez(path, images=CZYX, wells=np.arange(3)),
    "a.h5": lambda path: write_hdf5(path, CZYX),
    "a.ome.zarr": lambda path: write_ome_zarr(path, CZYX, "CZYX"),
}
SAY_NOTHING = "a.npy", "a.npz", "a.h5"


@pytest.mark.parametrize("name", WRITERS)
def test_one_volume_in_every_format(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    stack = "CZHW" if name in SAY_NOTHING else ""
    for z, expected in (
        ("max", CZYX.max(1)),
        ("middle", CZYX[:, 3]),
        ("2", CZYX[:, 1]),
    ):
        found = read_file(path, Reading(z, stack=stack))
        np.testing.assert_array_equal(found.pixels, np.moveaxis(expected, 0, -1))
        assert found.pixels.dtype == np.uint16
    mean = read_file(path, Reading("mean", stack=stack)).pixels
    np.testing.assert_array_equal(mean[..., 0], np.round(CZYX[0].mean(0)))
    if name in SAY_NOTHING:
        with pytest.raises(
            ValueError, match="--stack=NHWC, NCHW, CZHW or ZCHW says so"
        ):
            read_file(path, Reading("max"))
        return
    with pytest.raises(ValueError, match=r"7 depths \(axes .*\); --z=max, mean or mid"):
        read_file(path, Reading())
    with pytest.raises(ValueError, match=r"7 depths, no number 8 \(--z\)"):
        read_file(path, Reading("8"))
    if "ome" in name:
        assert found.channels == tuple(NAMES) and found.pixel_size == 0.325
    if name == "zcyx.tif":
        assert found.pixel_size == 0.25


def test_cells_of_scportrait_without_their_masks(tmp_path):
    """Masks stand before the channels in their h5sc."""
    h5py, path = pytest.importorskip("h5py"), tmp_path / "cells.h5sc"
    cells = np.random.default_rng(0).random((3, 4, 6, 5)).astype(np.float16)
    with h5py.File(path, "w") as file:
        file["obsm/X_codes"] = np.zeros((3, 7))
        file["obsm/single_cell_images"] = cells
        about = file["obsm/single_cell_images"].attrs
        about["channel_names"] = [b"nucleus", b"cytosol", b"DNA", b"actin"]
        about["channel_mapping"] = [b"mask", b"mask", *[b"image_channel"] * 2]
    assert count_in_file(path, Reading()) == 3
    for place in range(3):
        found = read_file(path, Reading(), place=place)
        expected = np.moveaxis(cells[place, 2:], 0, -1).astype(np.float32)
        np.testing.assert_array_equal(found.pixels, expected)
        assert found.channels == ("DNA", "actin")
    codes = read_file(path, Reading(array_name="obsm/X_codes")).pixels
    assert codes.shape[:2] == (3, 7)


@pytest.mark.parametrize("depths", [7, 61])
def test_depths_are_never_channels(tmp_path, depths):
    array = volume(depths)[0]
    tifffile.imwrite(tmp_path / "a.tif", array, metadata={"axes": "ZYX"})
    found = read_file(tmp_path / "a.tif", Reading("max")).pixels
    np.testing.assert_array_equal(found[..., 0], array.max(0))


def test_a_volume_of_zeiss():
    """tests/data/volume.czi is `volume(3)`, written by pylibCZIrw 6.1."""
    pytest.importorskip("czifile")
    found = read_file(Path("tests/data/volume.czi"), Reading("max")).pixels
    np.testing.assert_array_equal(found, np.moveaxis(volume(3).max(1), 0, -1))


def test_files_of_medicine(tmp_path):
    nibabel, pydicom = map(pytest.importorskip, ("nibabel", "pydicom"))
    grey = volume()[0, 0].astype(np.int16)
    image = nibabel.Nifti1Image(grey.T[:, :, None], np.eye(4))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "a.nii.gz")
    found = read_file(tmp_path / "a.nii.gz", Reading())
    np.testing.assert_array_equal(found.pixels[..., 0], grey)
    assert found.pixel_size == 1000
    about = pydicom.dataset.FileMetaDataset()
    about.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    about.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    about.MediaStorageSOPInstanceUID = "1.2.3"
    stored = pydicom.dataset.Dataset()
    stored.file_meta = about
    stored.SOPClassUID = about.MediaStorageSOPClassUID
    stored.SOPInstanceUID = about.MediaStorageSOPInstanceUID
    stored.Rows, stored.Columns = grey.shape
    stored.SamplesPerPixel, stored.PixelRepresentation = 1, 0
    stored.BitsAllocated, stored.BitsStored, stored.HighBit = 16, 12, 11
    stored.PixelSpacing = [0.5, 0.5]
    stored.PixelData = grey.astype("<u2").tobytes()
    for kind, expected in (("MONOCHROME2", grey), ("MONOCHROME1", 4095 - grey)):
        stored.PhotometricInterpretation = kind
        stored.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        found = read_file(tmp_path / "a.dcm", Reading())
        np.testing.assert_array_equal(found.pixels[..., 0], expected)
        assert found.pixel_size == 500


@pytest.mark.parametrize(
    ("shape", "axes", "stack", "expected"),
    [
        ((20, 24), "", "", "YX"),
        ((20, 24, 3), "", "", "YXC"),
        ((3, 20, 24), "QYX", "", "CYX"),
        ((60, 20, 24, 3), "", "", "NYXC"),
        ((60, 3, 20, 24), "", "", "NCYX"),
        ((1, 1, 20, 24), "", "", "CCYX"),
        ((60, 20, 24), "", "NHW", "NYX"),
        ((60, 20, 24), "ZYX", "nhw", "NYX"),
        ((60, 1, 20, 24), "", "NHW", "NCYX"),
        ((12, 20, 24), "", "CHW", "CYX"),
    ],
)
def test_letters_of_axes(shape, axes, stack, expected):
    assert find_axes(shape, axes, Reading(stack=stack)) == expected


@pytest.mark.parametrize(
    ("shape", "stack", "told"),
    [
        ((60, 20, 24), "", "60 images of 20 x 24, or one of 60 x 20 with 24 channels"),
        ((60, 20, 24), "NHWC", r"shape \(60, 20, 24\) has no axes NHWC"),
        ((2, 3, 5, 20, 24), "", r"shape \(2, 3, 5, 20, 24\); expected an image"),
        ((30, 30, 20, 24), "", "what are its axes"),
    ],
)
def test_axes_that_are_not_said(shape, stack, told):
    with pytest.raises(ValueError, match=told):
        find_axes(shape, "", Reading(stack=stack))


def test_colours_of_channels_are_channels():
    array = np.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3)
    found = take(array, "CYXS", 0, Reading())
    np.testing.assert_array_equal(found[0, 0], [0, 1, 2, 60, 61, 62])
    with pytest.raises(ValueError, match="that is too large"):
        take(np.broadcast_to(np.uint8(0), (1 << 15, 1 << 15)), "YX", 0, Reading())


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.h5", "a.zarr", "a.tif"])
@pytest.mark.parametrize("stack", ["NHWC", "NCHW", "NHW"])
def test_a_file_of_many_cells(tmp_path, name, stack):
    cells = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), np.uint8)
    stored = {"NHWC": cells, "NCHW": np.moveaxis(cells, -1, 1), "NHW": cells[..., 0]}
    array, path = np.ascontiguousarray(stored[stack]), tmp_path / "cells" / name
    path.parent.mkdir()
    if name == "a.npy":
        np.save(path, array)
    elif name == "a.npz":
        np.savez(path, images=array, infected=np.arange(30))
    elif name == "a.h5":
        write_hdf5(path, array)
    elif name == "a.zarr":
        zarr = pytest.importorskip("zarr")
        zarr.create_array(str(path), shape=array.shape, dtype="u1")[:] = array
    else:
        tifffile.imwrite(path, array, photometric="minisblack")
    told = stack if stack == "NHW" or name == "a.tif" else "auto"
    data = load(config_of(path.parent, tmp_path, image_size=0, stack=told))
    assert len(data.images) + len(data.eval_images) == 30
    expected = cells if stack != "NHW" else cells[..., :1]
    assert sorted(x.tobytes() for x in [*data.images[:], *data.eval_images]) == sorted(
        x.tobytes() for x in expected
    )


def test_a_file_of_several_is_no_image(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", volume()[0], photometric="minisblack")
    with pytest.raises(ValueError, match="shape"):
        read_file(tmp_path / "a.tif", Reading(stack="NHWC"))
    array = np.zeros((30, 16, 16, 3), np.uint8)
    tifffile.imwrite(tmp_path / "b.tif", array, photometric="rgb", metadata=None)
    with pytest.raises(ValueError, match="30 images; --stack=NHWC takes each"):
        read_file(tmp_path / "b.tif", Reading())


def test_several_arrays_in_a_file(tmp_path):
    pixels = {"cells": np.zeros((12, 16, 16)), "masks": np.ones((12, 16, 16))}
    np.savez(tmp_path / "a.npz", **pixels)
    with pytest.raises(ValueError, match=r"arrays \['cells', 'masks'\]; --array_name="):
        read_file(tmp_path / "a.npz", Reading(stack="NHW"))
    with pytest.raises(ValueError, match=r"no array x .*it has \['cells', 'masks'\]"):
        read_file(tmp_path / "a.npz", Reading(stack="NHW", array_name="x"))
    found = read_file(tmp_path / "a.npz", Reading("", "", "NHW", "masks"), place=3)
    assert (found.pixels == 1).all() and found.pixels.shape == (16, 16, 1)


def test_what_was_understood_is_told(tmp_path, logged):
    for i in range(12):
        array = np.random.default_rng(i).integers(0, 4096, (3, 16, 16), np.uint16)
        (tmp_path / "cells").mkdir(exist_ok=True)
        write_ome(tmp_path / "cells" / f"{i}.ome.tif", array, "CYX")
    data = load(config_of(tmp_path / "cells", tmp_path))
    assert data.channels == NAMES
    told = "12 images, 16 x 16 pixels of 0.325 um, 3 channels DNA, actin, pathogen, "
    assert told in logged()
    some = config_of(tmp_path / "cells", tmp_path, channels="3,1")
    assert load(some).channels == ["pathogen", "DNA"]


def test_pixels_of_several_sizes_are_told(tmp_path, logged):
    for i in range(12):
        array = np.random.default_rng(i).integers(0, 4096, (16, 16), np.uint16)
        (tmp_path / "cells").mkdir(exist_ok=True)
        resolution = (4, 4) if i else (2, 2)
        tifffile.imwrite(
            tmp_path / "cells" / f"{i}.tif",
            array,
            imagej=True,
            resolution=resolution,
            metadata={"unit": "um"},
        )
    load(config_of(tmp_path / "cells", tmp_path))
    assert "WARNING: pixels are of 0.25 to 0.5 um: size in the pictures" in logged()


def test_names_of_what_is_expanded(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((12, 16, 16, 3)))
    save(tmp_path / "b.png", np.zeros((16, 16), np.uint8))
    items = [Item(n, (tmp_path / n,), "x", n) for n in ("a.npy", "b.png")]
    found = expand(items, Config())
    assert [item.name for item in found[:2]] == ["a.npy/000000", "a.npy/000001"]
    assert found[12] == items[1] and found[3].group == "a.npy/000003"
    with pytest.raises(ValueError, match="constant"):
        read(found[2], Config())


@pytest.mark.parametrize(
    ("name", "value"),
    [("z", "maximum"), ("z", "0"), ("t", "last"), ("stack", "NHWQ"), ("stack", "NCC")],
)
def test_settings_that_say_nothing(name, value):
    with pytest.raises(UserError, match=f"--{name}={value}: expected"):
        Config(**{name: value})


@pytest.mark.parametrize(
    ("text", "faulty", "names", "size"),
    [
        ('SizeX="0.325"', 'SizeX="0,325"', tuple(NAMES), None),
        ('Name="DNA"', 'Name="D & NA"', ("1", "2", "3"), None),
        ('Name="DNA"', 'Name=""', ("1", "2", "3"), 0.325),
    ],
)
def test_what_ome_says_wrongly_keeps_no_image_out(tmp_path, text, faulty, names, size):
    path, image = tmp_path / "cell.ome.tif", volume(1)[:, 0]
    write_ome(path, image, "CYX")
    about = tifffile.tiffcomment(path)
    assert text in about
    tifffile.tiffcomment(path, about.replace(text, faulty).encode())
    decoded = read_file(path, Reading())
    np.testing.assert_array_equal(decoded.pixels, np.moveaxis(image, 0, -1))
    assert (decoded.channels, decoded.pixel_size) == (names, size)
