"""Somebody's folder of images, good and bad."""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tensorflow_datasets.core import shuffle

from infogan_jax import Config
from infogan_jax.config import UserError
from infogan_jax.data import listing, load, prepare, read_foreign, survey
from infogan_jax.data.folder import read
from infogan_jax.data.listing import Item
from tests.conftest import pixels_by_name


def picture(i: int, size=(20, 16), channels=3) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (*size, channels), np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.squeeze()).save(path)


@pytest.fixture
def cells(tmp_path):
    """A folder of 20 images, half in each of two subfolders."""
    root = tmp_path / "cells"
    for i in range(20):
        save(root / ("ill" if i % 2 else "well") / f"{i}.png", picture(i))
    return root


def config_of(root, tmp_path, **changes) -> Config:
    changes = {"image_size": 16} | changes
    return Config(dataset=f"folder:{root}", data_dir=f"{tmp_path}/tfds", **changes)


def read_one(path, channels="", **settings):
    item = Item("x", (path,), "", "x")
    return read(item, Config(channels=channels, **settings)).pixels


def test_a_folder_becomes_a_dataset(cells, tmp_path):
    data = load(config_of(cells, tmp_path), with_labels=True)
    assert data.images.shape == (18, 16, 16, 3)
    assert data.eval_images.shape == (2, 16, 16, 3)
    assert data.class_names == ["ill", "well"]
    assert sum(data.labels) + sum(data.eval_labels) == 10
    assert data.form.ranges == [[0, 255]] * 3


def test_preparing_twice_gives_the_same_bytes(cells, tmp_path):
    contents = []
    for home in "one", "two":
        where = prepare(config_of(cells, tmp_path / home))
        files = sorted(p for p in where.rglob("*") if p.is_file())
        contents.append({p.name: p.read_bytes() for p in files})
    assert contents[0] == contents[1]


def test_more_than_tfds_sorts_in_memory_needs_no_tensorflow(
    cells, tmp_path, monkeypatch
):
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1)
    assert len(load(config_of(cells, tmp_path)).images) == 18


def test_changed_files_are_noticed(cells, tmp_path, logged):
    config = config_of(cells, tmp_path)
    before = load(config)
    assert "preparing" in logged()
    load(config)
    assert logged() == ""  # once a process
    survey.tell.cache_clear()
    load(config)
    scale = "16 x 20 pixels, 3 channels, values 0 to 255 on a scale of 0 to 255"
    assert logged() == f"INFO: 20 images, {scale}"
    save(cells / "ill" / "new.png", picture(99))
    after = load(config)
    assert "has changed" in logged()
    assert len(after.images) + len(after.eval_images) == 21
    assert len(before.images) + len(before.eval_images) == 20


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tif", "npy"])
def test_every_format_gives_the_same_pixels(tmp_path, suffix):
    array, path = picture(0), tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(path, array)
    elif suffix == "webp":
        Image.fromarray(array).save(path, lossless=True)
    else:
        save(path, array)
    np.testing.assert_array_equal(read_one(path), array)


def test_jpeg_is_turned_as_exif_says(tmp_path):
    array = np.repeat(np.arange(0, 256, 8, np.uint8)[:, None], 16, axis=1)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(array).save(tmp_path / "a.jpg", exif=exif, quality=100)
    found = read_one(tmp_path / "a.jpg")[..., 0].astype(int)
    np.testing.assert_allclose(found, np.rot90(array, -1), atol=2)


def test_what_is_transparent_is_black_and_palettes_are_colours(tmp_path):
    array = np.full((16, 16, 4), 200, np.uint8)
    array[:8, :, 3] = 0
    array[8:, :, 3] = 255
    save(tmp_path / "a.png", array)
    found = read_one(tmp_path / "a.png")
    assert found.shape == (16, 16, 3)
    assert (found[:8] == 0).all() and (found[8:] == 200).all()
    colours = Image.fromarray(picture(1, (16, 16))).quantize(8)
    colours.save(tmp_path / "b.png")
    expected = np.asarray(colours.convert("RGB"))
    np.testing.assert_array_equal(read_one(tmp_path / "b.png"), expected)
    grey = Image.fromarray(picture(1, (16, 16), 1)[..., 0]).quantize(8)
    grey.save(tmp_path / "c.png")
    assert read_one(tmp_path / "c.png").shape == (16, 16, 1)


def test_cmyk_becomes_rgb(tmp_path):
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:8, :, 0] = 255  # cyan, on white
    Image.fromarray(ink, "CMYK").save(tmp_path / "a.jpg", quality=100)
    found = read_one(tmp_path / "a.jpg")
    assert found.shape == (16, 16, 3)
    np.testing.assert_allclose(found[-1, -1], [255, 255, 255], atol=3)
    assert found[0, 0, 0] < 80 < 200 < found[0, 0, 1]


def test_pages_of_a_tiff_are_channels(tmp_path):
    pages = picture(0, (3, 20), 16).astype(np.uint16) * 9
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    found = read_one(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, np.moveaxis(pages, 0, -1))
    np.testing.assert_array_equal(
        read_one(tmp_path / "a.tif", "3,1"), found[..., [2, 0]]
    )


def test_tiffs_look_as_a_person_sees_them(tmp_path):
    array = picture(0)
    picture_of = Image.fromarray(array)
    picture_of.quantize(16).save(tmp_path / "palette.tif")
    found = read_one(tmp_path / "palette.tif")
    np.testing.assert_array_equal(found, picture_of.quantize(16).convert("RGB"))
    ink = np.zeros((20, 16, 4), np.uint8)
    ink[:8, :, 0] = 255  # cyan, on white
    Image.fromarray(ink, "CMYK").save(tmp_path / "ink.tif")
    found = read_one(tmp_path / "ink.tif")
    assert found.shape == (20, 16, 3) and tuple(found[-1, -1]) == (255, 255, 255)
    for turn in range(1, 9):
        tags = picture_of.getexif()
        tags[274] = turn
        for name in ("a.tif", "a.png"):  # Pillow turns the latter
            picture_of.save(tmp_path / name, exif=tags)
        found = read_one(tmp_path / "a.tif")
        np.testing.assert_array_equal(found, read_one(tmp_path / "a.png"))
        assert found.shape == ((20, 16, 3) if turn < 5 else (16, 20, 3))
    # Of four channels, which many programs store as colours and alpha, none is lost
    cells = picture(1, channels=4)
    tifffile.imwrite(
        tmp_path / "b.tif", cells, photometric="rgb", extrasamples=["unassalpha"]
    )
    np.testing.assert_array_equal(read_one(tmp_path / "b.tif"), cells)


def test_what_a_file_is_says_its_content(tmp_path):
    array = picture(0)
    Image.fromarray(array).save(tmp_path / "a.tif", "PNG")
    tifffile.imwrite(tmp_path / "b.png", array, photometric="rgb")
    with (tmp_path / "c.jpg").open("wb") as file:
        np.save(file, array)
    for name in ("a.tif", "b.png", "c.jpg"):
        np.testing.assert_array_equal(read_one(tmp_path / name), array)
    bits = array[..., 0] > 99
    np.save(tmp_path / "d.npy", bits)
    Image.fromarray(bits).save(tmp_path / "e.tif")
    Image.fromarray(bits).save(tmp_path / "f.tif", compression="group4")
    for name in ("d.npy", "e.tif", "f.tif"):
        np.testing.assert_array_equal(read_one(tmp_path / name)[..., 0], bits * 255)


def test_colours_of_tiffs_are_red_green_and_blue(tmp_path):
    array = np.asarray(Image.fromarray(picture(0)).resize((64, 64)))
    for compression in (None, "tiff_lzw", "jpeg"):
        ycc = Image.fromarray(array).convert("YCbCr")
        ycc.save(tmp_path / "a.tif", compression=compression)
        found = read_one(tmp_path / "a.tif").astype(int)
        assert np.abs(found - array).mean() < 6, compression
    Image.new("LAB", (20, 20)).save(tmp_path / "lab.tif")
    with pytest.raises(ValueError, match="CIELAB colours"):
        read_one(tmp_path / "lab.tif")
    grey = picture(0, channels=1)[..., 0]
    tifffile.imwrite(tmp_path / "b.tif", grey, photometric="miniswhite")
    np.testing.assert_array_equal(read_one(tmp_path / "b.tif")[..., 0], 255 - grey)
    tifffile.imwrite(tmp_path / "c.tif", grey.astype("f4"), photometric="miniswhite")
    with pytest.raises(ValueError, match="0 is white, in values of type float32"):
        read_one(tmp_path / "c.tif")


def test_axes_are_those_that_a_file_names(tmp_path):
    def tiff(shape, axes):
        array = np.random.default_rng(0).integers(0, 4096, shape, np.uint16)
        imagej = axes != "YXS"
        options = {"imagej": True, "metadata": {"axes": axes}} if imagej else {}
        if not imagej:
            options = {"photometric": "minisblack", "planarconfig": "contig"}
        tifffile.imwrite(tmp_path / "a.tif", array, **options)
        return array

    wide = tiff((24, 24, 60), "YXS")
    np.testing.assert_array_equal(read_one(tmp_path / "a.tif"), wide)
    many = tiff((64, 32, 32), "CYX")
    found = read_one(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, np.moveaxis(many, 0, -1))
    for axes, told in (("TYX", "64 times"), ("ZYX", "64 depths")):
        tiff((64, 32, 32), axes)
        with pytest.raises(ValueError, match=rf"{told} \(axes {axes}\); --"):
            read_one(tmp_path / "a.tif")
    for shape in ((100, 28, 28), (16, 16, 20)):
        np.save(tmp_path / "b.npy", np.zeros(shape, np.uint8))
        with pytest.raises(ValueError, match=f"{shape[0]} images of {shape[1]} x"):
            read_one(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", picture(0, (3, 48), 48))
    assert read_one(tmp_path / "c.npy").shape == (48, 48, 3)


def test_one_file_is_one_image(tmp_path):
    """Thumbnails in it are passed over; of several images none is taken silently."""
    grey = picture(0, channels=1)[..., 0]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(grey[::2, ::2], subfiletype=1)
        file.write(grey)
    np.testing.assert_array_equal(read_one(tmp_path / "a.tif")[..., 0], grey)
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        file.write(grey)
        file.write(grey[:10].astype(np.uint16))
    with pytest.raises(ValueError, match=r"2 series .* uint8, .* uint16\); save each"):
        read_one(tmp_path / "b.tif")
    for name in ("c.png", "c.webp", "c.gif"):
        more = [Image.fromarray(255 - grey)]
        Image.fromarray(grey).save(tmp_path / name, save_all=True, append_images=more)
        with pytest.raises(ValueError, match="2 frames; save each as an image"):
            read_one(tmp_path / name)


def test_arrays_of_any_byte_order_are_one_kind(tmp_path):
    grey = picture(0, channels=1)[..., 0].astype(">u2")
    np.save(tmp_path / "a.npy", grey)
    found = read_one(tmp_path / "a.npy")
    assert str(found.dtype) == "uint16"
    np.testing.assert_array_equal(found[..., 0], grey)
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "b.npy").write_bytes(content[:-8])
    with pytest.raises(ValueError, match="a truncated file"):
        read_one(tmp_path / "b.npy")


def test_parts_of_a_split_are_no_labels(cells, tmp_path, logged):
    for part in ("train", "test"):
        shutil.copytree(cells, tmp_path / "both" / part)
    files = listing.find(tmp_path / "both", Config())
    assert {item.label for item in files.items} == {"ill", "well"}
    assert "subfolders test, train are no labels" in files.notes[0]


def test_a_page_of_an_ome_series_is_one_image(tmp_path):
    """Each file names the whole series; twelve files are not twelve copies of it."""
    names = [f"well_{i:02d}.ome.tif" for i in range(3)]
    uuid = "urn:uuid:00000000-0000-4000-8000-00000000000{}"
    blocks = "".join(
        f'<TiffData FirstT="{i}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{name}">{uuid.format(i)}</UUID></TiffData>'
        for i, name in enumerate(names)
    )
    for i, name in enumerate(names):
        about = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuid.format(i)}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYCZT" Type="uint8" SizeX="16" SizeY="20" SizeC="1" '
            f'SizeZ="1" SizeT="3">{blocks}</Pixels></Image></OME>'
        )
        pixels = picture(i, channels=1)[..., 0]
        tifffile.imwrite(tmp_path / name, pixels, description=about, metadata=None)
    for i, name in enumerate(names):
        expected = picture(i, channels=1)
        np.testing.assert_array_equal(read_one(tmp_path / name), expected)


def test_grey_with_a_transparent_value_stays_grey(tmp_path):
    grey = picture(0, channels=1)[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png", transparency=int(grey[3, 3]))
    found = read_one(tmp_path / "a.png")
    expected = np.where(grey == grey[3, 3], 0, grey)
    np.testing.assert_array_equal(found[..., 0], expected)
    assert found.shape == (20, 16, 1)
    deep = grey.astype(np.uint16) * 200
    Image.fromarray(deep).save(tmp_path / "b.png", transparency=int(deep[3, 3]))
    np.testing.assert_array_equal(read_one(tmp_path / "b.png")[..., 0], deep)


def test_colours_of_16_bits_in_a_png_are_not_cut_to_8(tmp_path):
    """Pillow reads such a file as 8 bits and says nothing."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
        )

    rows = b"".join(b"\0" + bytes(picture(i, (1, 32))) for i in range(16))
    png = b"\x89PNG\r\n\x1a\n"
    png += chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(png)
    with pytest.raises(ValueError, match="16-bit colours"):
        read_one(tmp_path / "a.png")
    grey = picture(0, (16, 16), 1)[..., 0].astype(np.uint16) * 200
    save(tmp_path / "b.png", grey)
    np.testing.assert_array_equal(read_one(tmp_path / "b.png")[..., 0], grey)


def test_grey_and_rgb_on_demand(tmp_path):
    save(tmp_path / "a.png", picture(0))
    save(tmp_path / "b.png", picture(0, channels=1))
    expected = np.asarray(Image.open(tmp_path / "a.png").convert("L")).astype(int)
    grey = read_one(tmp_path / "a.png", "grey")[..., 0].astype(int)
    np.testing.assert_allclose(grey, expected, atol=1)
    assert read_one(tmp_path / "b.png", "rgb").shape == (20, 16, 3)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", "zstd"])
def test_compressed_tiffs(tmp_path, compression):
    array, path = picture(0), tmp_path / "a.tif"
    tifffile.imwrite(path, array, compression=compression, photometric="rgb")
    np.testing.assert_array_equal(read_one(path), array)


def test_floats_of_several_widths_are_one_kind(tmp_path):
    for i in range(20):
        array = picture(i).astype(np.float32 if i % 2 else np.float64)
        (tmp_path / "floats").mkdir(exist_ok=True)
        np.save(tmp_path / "floats" / f"{i}.npy", array)
    data = load(config_of(tmp_path / "floats", tmp_path))
    assert len(data.images) + len(data.eval_images) == 20


def test_images_beside_subfolders_have_a_class_of_their_own(cells, tmp_path):
    for path in (cells / "well").iterdir():
        path.rename(cells / path.name)
    data = load(config_of(cells, tmp_path), with_labels=True)
    assert data.class_names == ["ill", "unsorted"]
    assert set(data.labels) == {0, 1}


def test_other_files_are_told_and_hidden_ones_are_not(cells, tmp_path, logged):
    (cells / "notes.txt").write_text("words")
    (cells / "ill" / "._1.png").write_bytes(b"what macOS leaves")
    prepare(config_of(cells, tmp_path))
    said = logged()
    assert "passed over: 1 that do not end as images do: notes.txt" in said
    assert "._1" not in said


def two_channels(root, n=20, scale=1.0):
    """Files {id}_ch{channel}.tif, of 16 bits."""
    root.mkdir()
    for i in range(n):
        for k, name in enumerate(("dna", "light")):
            array = picture(i, (16, 16), 2)[..., k].astype(np.uint16) * 16 + 100
            tifffile.imwrite(root / f"s{i % 5}_{i}_ch{name}.tif", array)


def test_a_file_for_each_channel(tmp_path):
    two_channels(tmp_path / "plate")
    config = config_of(
        tmp_path / "plate",
        tmp_path,
        file_pattern="{group}_{id}_ch{channel}.tif",
        channels="light,dna",
        percentiles="0,100",
    )
    data = load(config)
    assert data.images.shape == (16, 16, 16, 2)  # of five groups one is held out
    assert data.eval_images.shape == (4, 16, 16, 2)
    # From the lowest to the highest value: 100 to 100 + 16 * 255
    np.testing.assert_allclose(data.form.ranges, [[100, 4180]] * 2, atol=16 * 3)
    every = np.concatenate([data.images, data.eval_images])
    assert every.min() == 0 and every.max() == 255
    found = {image.tobytes() for image in every}
    dna, light = picture(7, (16, 16), 2)[..., 0], picture(7, (16, 16), 2)[..., 1]
    assert np.stack([light, dna], axis=-1).tobytes() in found


@pytest.mark.parametrize(
    "pattern, file, name",
    [
        ("*_{id}_ch{channel}.png", "{plate}_{i}_ch{k}.png", "A/1"),
        ("{channel}/*_{id}.png", "{k}/{plate}_{i}.png", "A/1"),
        ("*/w{channel}/{id}.png", "{plate}/w{k}/{i}.png", "A/w/A/1"),
    ],
)
def test_what_a_star_matches_tells_images_apart(tmp_path, pattern, file, name):
    root = tmp_path / "plates"
    for plate in "AB":
        for i in range(6):
            for k in (1, 2):
                where = file.format(plate=plate, i=i, k=k)
                save(root / where, picture(i + 10 * (plate == "B"), channels=1) // k)
    found = listing.find(root, config_of(root, tmp_path, file_pattern=pattern))
    assert len(found.items) == 12 and not found.left_out
    assert name in [item.name for item in found.items]
    for item in found.items:
        first, second = (read(item, Config()).pixels[..., k] for k in (0, 1))
        np.testing.assert_array_equal(second, first // 2)


def test_two_files_for_one_channel_are_refused(tmp_path):
    for name in ("xa_1", "ax_1"):
        save(tmp_path / "plates" / f"{name}_ch1.png", picture(0))
    config = config_of(tmp_path, tmp_path, file_pattern="*a*_{id}_ch{channel}.png")
    with pytest.raises(UserError, match=r"ax_1_ch1\.png and xa_1_ch1\.png are"):
        listing.find(tmp_path / "plates", config)


def test_linked_subfolders_are_read(cells, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    save(tmp_path / "elsewhere" / "0.png", picture(99))
    (cells / "linked").symlink_to(tmp_path / "elsewhere")
    found = listing.find(cells, config_of(cells, tmp_path))
    assert "linked/0.png" in [item.name for item in found.items]


def test_links_and_further_names_give_no_file_twice(cells, tmp_path):
    """Whatever a link leads to: here, around here, or elsewhere by two ways."""
    save(tmp_path / "elsewhere" / "0.png", picture(99))
    (tmp_path / "elsewhere" / "back").symlink_to(cells)
    for name, target in {
        "all": cells,
        "a_link_before_ill": cells / "ill",
        "around": tmp_path,
        "one": tmp_path / "elsewhere",
        "two": tmp_path / "elsewhere",
        "first.png": cells / "ill" / "1.png",
    }.items():
        (cells / name).symlink_to(target)
    (cells / "well" / "second.png").hardlink_to(cells / "well" / "2.png")
    found = listing.find(cells, config_of(cells, tmp_path))
    names = [item.name for item in found.items]
    assert len(names) == 21 and "one/0.png" in names and "ill/1.png" in names
    (note,) = found.notes
    assert note.startswith("passed over: 7 further links and names of what is here: ")


def test_what_is_no_image_of_the_user_is_passed_over(cells, tmp_path):
    """Thumbnails, hidden folders, and the pictures of runs beside the images."""
    for name in (
        ".hidden/1.png",
        "@eaDir/1.png",
        "ill/@eaDir/2.png",
        "run/figures/3.png",
    ):
        save(cells / name, picture(50))
    (cells / "run" / "config.json").write_text("{}")
    (cells / "run" / "checkpoints").mkdir()
    os.mkfifo(cells / "pipe.png")
    found = listing.find(cells, config_of(cells, tmp_path))
    assert len(found.items) == 20
    assert found.notes == [
        "passed over: 1 work directories of runs: run",
        "passed over: 2 folders of a system's own files: @eaDir, ill/@eaDir",
        "passed over: 1 that cannot be read: pipe.png",
    ]


def test_a_subfolder_without_permission_is_named_and_left_out(cells, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("ill"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    paths, notes = listing.walk(cells)
    assert len(paths) == 10
    assert notes == ["passed over: 1 that cannot be read: ill"]


def test_equal_images_are_on_one_side(tmp_path, logged):
    for i in range(30):
        for copy in "ab":
            save(tmp_path / "twins" / copy / f"{i}.png", picture(i))
    data = load(config_of(tmp_path / "twins", tmp_path))
    held_out = {image.tobytes() for image in data.eval_images}
    assert len(data.eval_images) == 2 * len(held_out) > 0
    assert not held_out & {image.tobytes() for image in data.images}
    assert "WARNING: 30 images are equal to others" in logged()


def test_pictures_that_are_almost_black_are_told_and_made_bright(tmp_path, logged):
    """Masks of 0 and 1, and a camera of 12 bits in dim light."""
    for i in range(12):
        save(tmp_path / "masks" / f"{i}.png", picture(i, channels=1) % 2)
        dim = picture(i, channels=1).astype(np.uint16) * 2000
        dim = (dim // 2000 + 2).clip(2, 20)
        (tmp_path / "dim").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "dim" / f"{i}.tif", dim)
    assert load(config_of(tmp_path / "masks", tmp_path)).images[:].max() <= 1
    assert (
        "WARNING: no value is above 1 of 255: pictures are almost black; "
        "--value_range=0,1 makes them bright"
    ) in logged()
    bright = load(config_of(tmp_path / "masks", tmp_path, value_range="0,1"))
    assert bright.images[:].max() == 255 and bright.form.ranges == [[0, 1]]
    assert "WARNING" not in logged()
    load(config_of(tmp_path / "dim", tmp_path))
    assert "--value_range=2,20 makes" in logged()


def test_values_that_are_not_finite_can_be_replaced(tmp_path):
    array = picture(0, channels=1).astype(np.float32)
    array[:3] = np.nan
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match="--nan_value=0 would replace them"):
        read_one(tmp_path / "a.npy")
    found = read_one(tmp_path / "a.npy", nan_value="7")
    assert (found[:3] == 7).all()
    np.testing.assert_array_equal(found[3:], array[3:])


def test_one_group_cannot_be_held_out(tmp_path):
    for i in range(12):
        save(tmp_path / "one" / f"slide_{i}.png", picture(i))
    config = config_of(tmp_path / "one", tmp_path, file_pattern="{group}_{id}.png")
    with pytest.raises(UserError, match=r"one group \(slide\)"):
        prepare(config)


def test_slides_that_number_their_cells_alike_are_kept_apart(tmp_path):
    """Nor do the channels of two cells ever make one image."""
    root = tmp_path / "plate"
    root.mkdir()
    for slide in "AB":
        for i in range(12):
            for k in (1, 2):
                array = picture(i + 100 * (slide == "B"), (16, 16), 2)[..., k - 1]
                tifffile.imwrite(root / f"{slide}_{i}_ch{k}.tif", array)
    (root / "A_3_ch2.tif").unlink()
    (root / "B_3_ch1.tif").unlink()
    pattern = "{group}_{id}_ch{channel}.tif"
    where = prepare(
        config_of(root, tmp_path, file_pattern=pattern, max_invalid_percent=10.0)
    )
    left_out = json.loads((where / "metadata.json").read_text())["left_out"]
    assert left_out == {
        "A/3": "channel 2 is missing",
        "B/3": "channel 1 is missing",
    }
    data = load(
        config_of(root, tmp_path, file_pattern=pattern, max_invalid_percent=10.0)
    )
    assert len(data.images) + len(data.eval_images) == 22
    assert data.channels == ["1", "2"]


def test_bytes_in_wider_clothes_keep_their_scale(tmp_path):
    root = tmp_path / "wide"
    root.mkdir()
    for i in range(20):
        tifffile.imwrite(
            root / f"{i}.tif", picture(i, (16, 16), 1)[..., 0].astype("u2")
        )
    data = load(config_of(root, tmp_path))
    assert data.form.ranges == [[0, 255]]
    found = {image.tobytes() for image in (*data.images, *data.eval_images)}
    assert picture(3, (16, 16), 1).tobytes() in found


def test_signed_numbers_are_no_bytes(tmp_path):
    """Such as the Hounsfield units of a CT scan, all below 0."""
    root = tmp_path / "scans"
    root.mkdir()
    for i in range(12):
        np.save(root / f"{i}.npy", picture(i, (16, 16), 1)[..., 0].astype("i2") - 2000)
    data = load(config_of(root, tmp_path))
    assert data.images.max() == 255 and data.images.min() == 0
    assert data.form.ranges[0][1] < -1700


def test_labels_are_one_line(tmp_path):
    root = tmp_path / "cells"
    for name in ("two\nlines ", "x"):
        (root / name).mkdir(parents=True)
        for i in range(12):
            save(root / name / f"{i}.png", picture(i))
    data = load(config_of(root, tmp_path))
    assert data.class_names == ["two lines", "x"]


def test_links_and_names_that_lead_nowhere_are_left_out(cells, tmp_path):
    some = next(cells.rglob("*.png"))
    (cells / "gone.png").symlink_to(tmp_path / "none.png")
    (cells / "loop.png").symlink_to(cells / "loop.png")
    odd = os.path.join(os.fsencode(cells), b"\xff.png")
    shutil.copy(some, odd)
    where = prepare(config_of(cells, tmp_path, max_invalid_percent=50.0))
    left_out = json.loads((where / "metadata.json").read_text())["left_out"]
    assert left_out.pop("\\udcff.png") == "a name that is not UTF-8"
    assert set(left_out) == {"gone.png", "loop.png"}


def bombs(root):
    """Files that would take far more memory than they have bytes."""
    with (root / "a.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (100_000, 100_000)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(4 * 10**10 + 128)  # a file with holes, and no bytes on disk
    np.save(root / "b.npy", np.zeros(4))
    content = (root / "b.npy").read_bytes().replace(b"(4,)", b"(9999999999, 9)")
    (root / "b.npy").write_bytes(content)
    np.save(root / "c.npy", np.array([print]), allow_pickle=True)
    tifffile.imwrite(root / "d.tif", picture(0))
    with tifffile.TiffFile(root / "d.tif", mode="r+b") as file:
        for tag in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[tag].overwrite(100_000)
    buffer = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(buffer, "PNG")
    (root / "e.png").write_bytes(buffer.getvalue())


def test_no_file_takes_memory_beyond_reason_or_is_unpickled(tmp_path):
    bombs(tmp_path)
    tracemalloc.start()
    for path in sorted(tmp_path.iterdir()):
        look = survey._look(Item("x", (path,), "", ""), Config(), True)
        assert isinstance(look, str) and look, path
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * 2**20


def broken(root):
    """Files that cannot be used, and why."""
    (root / "empty.png").touch()
    (root / "text.png").write_text("not an image")
    whole = io.BytesIO()
    Image.fromarray(picture(0)).save(whole, "PNG")
    (root / "cut.png").write_bytes(whole.getvalue()[:200])
    save(root / "small.png", picture(0, (4, 4)))
    save(root / "black.png", np.zeros((16, 16, 3), np.uint8))
    np.save(root / "nan.npy", np.full((16, 16, 3), np.nan, np.float32))
    np.save(root / "line.npy", np.arange(99.0))
    np.save(root / "words.npy", np.full((16, 16), "x"))
    np.save(root / "infinite.npy", np.full((16, 16, 3), np.inf, np.float32))
    (root / "cut.tif").write_bytes(b"II*\0\x08\0\0\0\xff\xff")
    tifffile.imwrite(root / "harmed.tif", picture(0), compression="zlib")
    harmed = bytearray((root / "harmed.tif").read_bytes())
    harmed[-200:-100] = bytes(100)
    (root / "harmed.tif").write_bytes(harmed)
    Image.fromarray(picture(0)).save(root / "wide.tif")
    tifffile.imwrite(root / "wide.tif", picture(0).astype(np.uint16))
    return {
        "empty.png": "an empty file",
        "text.png": "no image that can be read",
        "cut.png": "",
        "small.png": "4 x 4 pixels; expected 8 or more",
        "black.png": "constant: every value is 0",
        "nan.npy": "holds values that are not finite",
        "infinite.npy": "holds values that are not finite",
        "harmed.tif": "",
        "line.npy": "an array of shape (99,); expected an image",
        "words.npy": "values of type <U1; expected numbers",
        "cut.tif": "no image that can be read",
        "wide.tif": "uint16, where most others are uint8",
    }


def test_unusable_files_are_left_out_and_listed(cells, tmp_path, logged):
    reasons = broken(cells)
    where = prepare(config_of(cells, tmp_path, max_invalid_percent=50.0))
    out = logged()
    left_out = json.loads((where / "metadata.json").read_text())["left_out"]
    assert set(left_out) == set(reasons)
    for name, reason in reasons.items():
        assert reason in left_out[name] and left_out[name]
    for name in sorted(reasons)[:10]:
        assert f"left out: {name}: " in out
    assert "left out: 12 in all, see " in out


def test_one_scene_in_8_and_in_16_bits(tmp_path, logged):
    """Both are taken as fractions of their own white."""
    root = tmp_path / "cells"
    for i in range(10):
        image = picture(i, (16, 16), 1)
        save(root / f"a{i}.png", image)
        Image.fromarray(image[..., 0].astype(np.uint16) * 257).save(root / f"b{i}.png")
    config = config_of(root, tmp_path)
    data = load(config)
    assert "10 images are of 8 bits, 10 of 16: each is taken as a fraction" in logged()
    assert len(data.images) + len(data.eval_images) == 20
    assert data.form.are_widened and data.form.ranges[0][1] > 65_000
    images = pixels_by_name(read_foreign(root, config, (16, 16, 1), data.form))
    for i in range(10):
        np.testing.assert_array_equal(images[f"a{i}.png"], images[f"b{i}.png"])


def test_a_few_of_other_bits_change_nothing(cells, tmp_path):
    """Nor do 12 bits of a camera."""
    before = load(config_of(cells, tmp_path))
    image = picture(99)[..., 0].astype(np.uint16) * 16
    for i in range(2):
        Image.fromarray(image + i).convert("I;16").save(cells / f"wide{i}.png")
    config = config_of(cells, tmp_path, max_invalid_percent=50.0)
    after = load(config)
    assert not after.form.are_widened and after.form.ranges == before.form.ranges


def told(root, tmp_path, **changes) -> str:
    with pytest.raises(UserError) as error:
        load(config_of(root, tmp_path, **changes))
    assert "\n" not in str(error.value)
    assert not any((tmp_path / "tfds").glob("folder/*/*/dataset_info.json"))
    return str(error.value)


def test_too_many_unusable_files_are_an_error(cells, tmp_path):
    broken(cells)
    text = told(cells, tmp_path)
    assert "12 of 32 images cannot be used, more than --max_invalid_percent=1:" in text
    assert "black.png: constant" in text and "and 4 other reasons" in text
    assert "infinite.npy, nan.npy: holds values that are not finite" in text


def test_wrong_folders(tmp_path):
    root = tmp_path / "folder"
    assert "is no folder" in told(root, tmp_path)
    root.mkdir()
    assert "has no files of images" in told(root, tmp_path)
    save(root / "a.png", picture(0))
    assert "1 image; expected 10 or more" in told(root, tmp_path)
    for i in range(10):
        save(root / f"{i}.png", picture(i))
    assert "not square or of 1 sizes, such as 16 x 20" in told(
        root, tmp_path, image_size=0
    )
    save(root / "b.png", picture(0, (30, 30)))
    assert "of 2 sizes" in told(root, tmp_path, image_size=0)
    assert "no files that match" in told(root, tmp_path, file_pattern="{id}.gif")
    assert "expected {id}" in told(root, tmp_path, file_pattern="*.png")
    for channels in ("blue", "RGB", "0", "1,", "1,1", "rgb,grey", "-1"):
        text = f"--channels={channels}: expected grey, rgb, or numbers"
        with pytest.raises(UserError, match=text):
            config_of(root, tmp_path, channels=channels).validate()
    assert "{name}; expected" in told(root, tmp_path, file_pattern="{id}{name}")
    save(root / "c.png", picture(0, channels=1))
    text = told(root, tmp_path)
    assert "several channel counts (1 with 1, 12 with 3)" in text


def test_a_folder_that_cannot_be_read(tmp_path, cells, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    assert "cannot be read (Permission denied)" in told(cells, tmp_path)


def test_a_channel_that_is_missing(tmp_path):
    two_channels(tmp_path / "plate")
    (tmp_path / "plate" / "s0_0_chdna.tif").unlink()
    pattern = "{id}_ch{channel}.tif"
    text = told(tmp_path / "plate", tmp_path, file_pattern=pattern)
    assert "s0_0: channel dna is missing" in text
    text = told(tmp_path / "plate", tmp_path, file_pattern=pattern, channels="dna,rna")
    assert "no files of channel rna; expected some of ['dna', 'light']" in text


def test_a_partial_set_is_never_taken_for_whole(cells, tmp_path):
    """The disk fills up while records are written."""
    script = f"""
import resource
from infogan_jax import UserError
from infogan_jax.data import prepare
from tests.test_folder import config_of
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
try:
    prepare(config_of({str(cells)!r}, {str(tmp_path)!r}))
except UserError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", f"from pathlib import Path\n{script}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "make room, or name another folder by --data_dir" in done.stdout, done.stderr
    data = load(config_of(cells, tmp_path))
    assert len(data.images) + len(data.eval_images) == 20


def test_size_stays_size(tmp_path, logged):
    """Boxes of 10 to 29 pixels around discs as large: one factor for all."""
    rng, areas = np.random.default_rng(0), {}
    for i in range(60):
        side = 10 + i // 3
        rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
        disc = rows**2 + columns**2 < (side / 2) ** 2
        image = np.where(disc, rng.integers(180, 256, disc.shape), 0).astype(np.uint8)
        save(tmp_path / "cells" / f"{i:02d}.png", image)
        areas[f"{i:02d}.png"] = disc.sum()
    config = config_of(tmp_path / "cells", tmp_path)
    data = load(config)
    assert "all scaled alike, 29 pixels to 16" in logged()
    assert data.form.scale == 16 / 29
    seen = [name for name, _ in foreign(config, data)]
    sizes = [np.count_nonzero(image > 90) for _, image in foreign(config, data)]
    assert np.corrcoef(sizes, [areas[name] for name in seen])[0, 1] > 0.99
    each = config_of(tmp_path / "cells", tmp_path, resize_mode="pad")
    assert load(each).form.scale is None


def foreign(config, data):
    shape = data.images.shape[1:]
    root = Path(config.dataset.removeprefix("folder:"))
    return pixels_by_name(read_foreign(root, config, shape, data.form)).items()


def test_what_is_beyond_the_scale_is_cut(tmp_path, logged):
    for i in range(200):
        size = (60, 60) if i == 7 else (20, 20 - i % 2)
        save(tmp_path / "cells" / f"{i:03d}.png", picture(i, size))
    data = load(config_of(tmp_path / "cells", tmp_path))
    told = "20 pixels to 16, of which 1 larger ones lose their borders"
    assert told in logged() and data.images.shape[1:3] == (16, 16)
