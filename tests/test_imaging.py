"""What is done to one image, and which images are held out."""

import gzip
import io

import numpy as np
import pytest
from PIL import Image

from infogan_jax import Config, UserError
from infogan_jax.data import imaging, load, splits
from infogan_jax.evaluation.pose_r2 import pose_r2
from tests.conftest import REAL_DATA

needs_cells = pytest.mark.skipif(
    not (REAL_DATA / "tfds" / "malaria").exists(), reason=f"no cells in {REAL_DATA}"
)


def wide() -> np.ndarray:
    image = np.full((8, 16, 2), 100, np.uint8)
    image[:, :4] = 200
    return image


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    ("form", "stored"),
    [("png", stored) for stored in ("L", "LA", "RGB", "RGBA", "P", "1", "I;16")]
    + [("webp", "RGB"), ("webp", "RGBA"), ("jpeg", "L"), ("jpeg", "RGB")],
)
def test_images_are_decoded_as_pillow_does(mode, stored, form):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    picture = Image.fromarray(pixels)
    if stored == "I;16":
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 200)
    else:
        picture = picture.convert(stored)
    file = io.BytesIO()
    picture.save(file, form, lossless=True)
    found = imaging.decode(file.getvalue(), mode)
    expected = np.asarray(Image.open(file).convert(mode)).reshape(5, 7, -1)
    np.testing.assert_array_equal(found, expected)


def test_a_damaged_image_is_pillows_to_tell():
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "png")
    for damaged in (file.getvalue()[:40], b"\x89PNG", b""):
        with pytest.raises(OSError):
            imaging.decode(damaged, "L")


def test_pad_keeps_everything_and_crop_the_middle():
    padded = imaging.resize(wide(), 16, "pad")
    assert padded.shape == (16, 16, 2)
    assert (padded[:4] == 0).all() and (padded[12:] == 0).all()
    np.testing.assert_array_equal(padded[4:12], wide())
    cropped = imaging.resize(wide(), 8, "crop")
    np.testing.assert_array_equal(cropped, np.full((8, 8, 2), 100))
    stretched = imaging.resize(wide(), 8, "stretch")
    np.testing.assert_allclose(stretched[:, [0, 7], 0], [[200, 100]] * 8, atol=8)


def test_the_filter_of_resizing_does_not_overshoot():
    image = np.zeros((32, 32, 1), np.float32)
    image[8:24, 8:24] = 5.0
    small = imaging.resize(image, 12, "pad")
    assert small.dtype == np.float32
    assert small.min() == 0 and small.max() == 5


def drop(angle: float, row: float, column: float, side=33) -> np.ndarray:
    """A bright drop on grey, its tail along the angle (radians, from x to y)."""
    y, x = np.mgrid[:side, :side]
    along = (x - column) * np.cos(angle) + (y - row) * np.sin(angle)
    across = -(x - column) * np.sin(angle) + (y - row) * np.cos(angle)
    width = np.where(along < 0, 3.0, np.maximum(3.0 - along / 4, 0.1))
    inside = (np.abs(across) < width) & (along > -3) & (along < 10)
    return (60 + 150 * inside[..., None]).astype(np.uint8)


@pytest.mark.parametrize("angle", [0.0, 0.6, 2.0, -2.5])
def test_pose_of_a_drop(angle):
    row, column, found = imaging.pose(drop(angle, 15, 17))
    assert np.cos(found - angle) > 0.98
    centre = imaging.pose(drop(0.0, 16, 16))[1] - 16  # the tail draws it along
    assert column == pytest.approx(17 + centre * np.cos(angle), abs=0.4)
    assert row == pytest.approx(15 + centre * np.sin(angle), abs=0.4)


def test_align_brings_every_pose_to_one():
    upright = imaging.align(drop(0.0, 16, 16), "axis").astype(int)
    for angle, row, column in ((0.7, 13, 18), (3.0, 18, 15), (-1.4, 16, 14)):
        turned = imaging.align(drop(angle, row, column), "axis").astype(int)
        assert np.abs(turned - upright).mean() < 6
        assert imaging.pose(turned)[:2] == pytest.approx((16, 16), abs=0.3)
        moved = imaging.align(drop(angle, row, column), "centre")
        assert imaging.pose(moved)[:2] == pytest.approx((16, 16), abs=0.3)
        assert np.cos(imaging.pose(moved)[2] - angle) > 0.98
    flat = np.full((8, 8, 3), 9, np.uint8)
    np.testing.assert_array_equal(imaging.align(flat, "axis"), flat)


def test_align_does_not_draw_out_what_touches_the_border():
    image = np.full((17, 17, 2), (0, 30), np.uint8)
    image[6:11, :5] = 200
    expected = np.full((17, 17, 2), (0, 30), np.uint8)
    expected[6:11, 6:11] = 200
    np.testing.assert_array_equal(imaging.align(image, "centre"), expected)


def test_stains_of_a_cell_by_hand():
    """A cell of one colour, and in it a spot that absorbs azure besides."""
    own = np.exp(-0.5 * np.array([0.3, 0.6, 0.4]))
    image = np.zeros((12, 12, 3))
    image[1:11, 1:11] = own
    image[5:7, 5:7] = own * np.exp(-imaging._AZURE)
    found = imaging.separate_stains(np.round(255 * image).astype(np.uint8))
    assert found.shape == (12, 12, 2)
    assert (found[0] == 0).all()  # nothing is outside of the cell
    absorbed = 0.5 * np.mean([0.3, 0.6, 0.4])
    np.testing.assert_allclose(found[3, 3], [255 * absorbed / 0.9, 0], atol=2)
    total = absorbed + imaging._AZURE.mean()
    np.testing.assert_allclose(found[5, 5], [255 * total / 0.9, 255 / 1.5], atol=3)
    assert (imaging.separate_stains(np.zeros((9, 9, 3), np.uint8)) == 0).all()


def test_whole_groups_are_held_out():
    groups = [f"slide {i % 30}" for i in range(300)]
    out = splits.held_out(groups)
    assert out.sum() == 30  # three of thirty slides
    assert len({g for g, o in zip(groups, out, strict=True) if o}) == 3
    np.testing.assert_array_equal(splits.held_out(groups[::-1]), out[::-1])
    assert splits.held_out(["a", "b"]).sum() == 1


@needs_cells
def test_cells_are_held_out_by_slide(tmp_path):
    cells = {"dataset": "malaria", "data_dir": str(REAL_DATA / "tfds")}
    table = REAL_DATA / "malaria_slides.csv.gz"
    config = Config(**cells, image_size=16, input="stream", group_csv=str(table))
    data = load(config)
    assert (len(data.images), len(data.eval_images)) == (25480, 2078)
    lines = gzip.decompress(table.read_bytes()).decode().splitlines()
    (tmp_path / "some.csv").write_text("\n".join(lines[:100]))
    for name, told in (
        ("some.csv", "no group for image 0 of --dataset=malaria"),
        ("none.csv", "No such file"),
    ):
        wrong = Config(**cells, image_size=16, group_csv=str(tmp_path / name))
        with pytest.raises(UserError, match=told):
            load(wrong)
    (tmp_path / "torn.csv.gz").write_bytes(table.read_bytes()[:1000])
    with pytest.raises(UserError, match="expected a CSV file"):
        splits.read_groups(tmp_path / "torn.csv.gz")


def test_groups_are_for_datasets_without_a_split(data_dir, tmp_path):
    config = Config(data_dir=str(data_dir), group_csv=str(tmp_path / "g.csv"))
    with pytest.raises(UserError, match="has a split 'test' of its own"):
        load(config)


def test_share_of_a_code_that_the_pose_explains():
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(4000, 3))
    noise = rng.normal(size=(4000, 1))
    np.testing.assert_allclose(pose_r2(poses[:, :1], poses), 1, atol=1e-6)
    assert pose_r2(noise, poses) < 0.01
    half = np.cos(2 * poses[:, 2:])
    half += noise * half.std()
    assert pose_r2(half, poses) == pytest.approx(0.5, abs=0.05)
    assert pose_r2(np.ones((10, 1)), poses[:10]) == 0
