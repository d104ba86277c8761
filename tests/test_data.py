import dataclasses
import functools
import hashlib
import http.server
import io
import math
import os
import shutil
import sys
import threading
import types
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infogan_jax import Config, UserError, cores, kept
from infogan_jax.data import (
    StoredImages,
    Stream,
    batch_indices,
    builders,
    download,
    factor_builders,
    fingerprint,
    load,
    open_dataset,
    sources,
    splits,
    stored,
    stream,
)
from infogan_jax.data.download import DownloadError, RemoteFile, fetch
from infogan_jax.data.prepare import _prepared
from tests.conftest import REAL_DATA, cut, flip, write_idx

needs_real_data = pytest.mark.skipif(
    not REAL_DATA.exists(), reason=f"no prepared datasets in {REAL_DATA}"
)


def test_batches_are_a_function_of_seed_and_step():
    for step in (0, 3, 17):
        again = batch_indices(5, step, 8, 50)
        stream._orders.cache_clear()
        np.testing.assert_array_equal(batch_indices(5, step, 8, 50), again)
    assert not np.array_equal(batch_indices(5, 0, 8, 50), batch_indices(6, 0, 8, 50))


def test_an_epoch_shows_each_image_at_most_once():
    seen = np.concatenate([batch_indices(0, step, 8, 50) for step in range(6)])
    assert len(set(seen)) == 48
    following = np.concatenate([batch_indices(0, step, 8, 50) for step in range(6, 12)])
    assert not np.array_equal(seen, following)


def test_embedded_digits(data_dir):
    data = load(Config(data_dir=str(data_dir)))
    assert data.images.shape == (4000, 28, 28, 1)
    assert data.images.dtype == np.uint8
    assert data.eval_images.shape == (1000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(data.eval_labels), [100] * 10)
    held_out = {image.tobytes() for image in data.eval_images}
    assert not held_out & {image.tobytes() for image in data.images}


def test_image_size_is_brought_about(data_dir):
    data = load(Config(data_dir=str(data_dir), image_size=16))
    assert data.images.shape == (4000, 16, 16, 1)


def test_images_on_disk_look_like_an_array(data_dir):
    config = Config(data_dir=str(data_dir))
    images = load(config).images
    on_disk = load(dataclasses.replace(config, data_placement="stream")).images
    assert isinstance(on_disk, StoredImages)
    assert (on_disk.shape, on_disk.nbytes) == (images.shape, images.nbytes)
    places = np.array([[3999, 0, 7], [7, 7, 100]])
    np.testing.assert_array_equal(on_disk[places], images[places])
    np.testing.assert_array_equal(on_disk[100:300:3], images[100:300:3])
    assert fingerprint(load(config)) == fingerprint(
        load(config)._replace(images=on_disk)
    )


def test_images_stay_on_disk_only_if_they_are_too_many(data_dir):
    config = Config(data_dir=str(data_dir))
    size = load(config).images.nbytes
    assert isinstance(load(config, max_bytes=size).images, np.ndarray)
    assert isinstance(load(config, max_bytes=size - 1).images, StoredImages)


@pytest.fixture
def by_processes(monkeypatch):
    monkeypatch.setattr(stored, "_CHUNK", 2**14)
    monkeypatch.setattr(cores, "_MIN_SECONDS", 0)


def test_processes_read_what_takes_long(data_dir, by_processes):
    found = open_dataset(Config(data_dir=str(data_dir)), False, math.inf).images
    images = found[:]
    np.testing.assert_array_equal(found.materialize(), images)
    assert found.materialize() is found.materialize()
    np.testing.assert_array_equal(found.subset(np.array([7, 3]))[:], images[[7, 3]])


@pytest.fixture
def keep(tmp_path, monkeypatch):
    """The folder of arrays that are kept, whatever it takes to make them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "_WORTH", 0)
    return tmp_path / "cache" / "infogan_jax"


def test_the_next_start_reads_no_image_again(prepared, keep, monkeypatch):
    config = Config(data_dir=str(prepared.parents[1]), image_size=16)
    data, decoded = load(config), []
    assert len(list(keep.iterdir())) == 2  # training images, held-out ones
    decode = sources.imaging.decode
    monkeypatch.setattr(
        sources.imaging, "decode", lambda *x: decoded.append(1) or decode(*x)
    )
    again = load(config)
    np.testing.assert_array_equal(again.images, data.images)
    np.testing.assert_array_equal(again.eval_images, data.eval_images)
    assert len(decoded) == 2  # one of each, for its shape
    assert all(path.stat().st_mode & 0o77 == 0 for path in keep.iterdir())
    # Other settings, other files, and what is damaged: all are read.
    assert load(dataclasses.replace(config, align="centre")).images.shape[1] == 16
    os.utime(record(prepared))
    load(config)
    for i, path in enumerate(keep.iterdir()):
        path.write_bytes(b"") if i % 2 else cut(path)
    load(config)
    assert len(decoded) == 2 + 3 * 5000 + 6


def test_what_was_used_longest_ago_makes_room(keep, monkeypatch):
    monkeypatch.setattr(kept, "_MOST", 3000)
    for i in range(3):
        array = kept.kept("some", f"{i}", lambda i=i: np.full(125, i))  # 1,128 bytes
        np.testing.assert_array_equal(array, i)
        os.utime(keep / f"some_{i}.npy", (i, i))
    assert kept.kept("some", "1", lambda: None)[0] == 1
    kept.kept("some", "3", lambda: np.full(125, 3))
    assert {path.name for path in keep.iterdir()} == {"some_1.npy", "some_3.npy"}
    assert len(kept.kept("some", "4", lambda: np.zeros(1000))) == 1000  # too large
    assert {path.name for path in keep.iterdir()} == {"some_1.npy", "some_3.npy"}


def test_without_a_folder_nothing_is_kept(keep):
    keep.parent.mkdir()
    keep.write_text("a file")
    assert kept.kept("some", "0", lambda: np.arange(3)).tolist() == [0, 1, 2]


def test_a_stream_makes_the_next_stretch_ahead():
    made = []
    stream = Stream(lambda begin, end: made.append((begin, end)) or begin)
    assert stream.get(0, 5) == 0
    stream.prefetch(5, 7)
    stream.prefetch(5, 7)
    assert stream.get(5, 7) == 5
    assert made == [(0, 5), (5, 7)]
    stream.close()


def test_of_prepared_versions_the_newest_is_taken_and_configurations_are_named(
    tmp_path,
):
    def add(name):
        (tmp_path / "things" / name).mkdir(parents=True)
        (tmp_path / "things" / name / "dataset_info.json").write_text("{}")

    assert _prepared(tmp_path / "things") is None
    for version in ("1.9.0", "1.10.0", "1.11.0.incomplete"):
        add(version)
    assert _prepared(tmp_path / "things").name == "1.10.0"
    add("zoom/1.0.0")
    assert _prepared(tmp_path / "things" / "zoom").name == "1.0.0"
    with pytest.raises(UserError, match=r"'zoom'\]; name one, .*tfds:things/zoom"):
        _prepared(tmp_path / "things")


@needs_real_data
def test_prepared_datasets_are_used_as_they_are():
    config = Config(dataset="tfds:fashion_mnist", data_dir=str(REAL_DATA / "tfds"))
    data = load(config)
    assert data.images.shape == (60000, 28, 28, 1)
    assert data.class_names[8] == "Bag"


class _Server(http.server.ThreadingHTTPServer):
    """Serves a folder; `breaks` replies end half way, and no `ranges` are known."""

    def __init__(self, folder: Path, breaks: int = 0, ranges: bool = True):
        self.breaks, self.ranges, self.requests = breaks, ranges, []
        handler = functools.partial(_Handler, directory=str(folder))
        super().__init__(("127.0.0.1", 0), handler)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.exists():
            return self.send_error(404)
        content = path.read_bytes()
        start = int(self.headers["Range"].split("=")[1].rstrip("-"))
        self.server.requests.append(start)
        if not self.server.ranges:
            start = 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        if self.server.breaks:
            self.server.breaks -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A file on a server's disk, and its description."""
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    content = np.random.default_rng(0).bytes(300_000)
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "file").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return folder, RemoteFile("file", len(content), digest), content


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_taken_up_again(remote, tmp_path, ranges):
    folder, file, content = remote
    with _Server(folder, breaks=2, ranges=ranges) as server:
        path = fetch(file, [server.url], tmp_path / "here")
        assert path.read_bytes() == content
        assert server.requests[0] == 0
        assert server.requests[1] > 0
        fetch(file, [server.url], tmp_path / "here")  # it is here already
        assert len(server.requests) == 3


def test_of_several_that_want_a_file_one_fetches_it(remote, tmp_path):
    folder, file, content = remote
    with _Server(folder) as server, ThreadPoolExecutor(4) as pool:
        paths = pool.map(lambda _: fetch(file, [server.url], tmp_path / "here"), "1234")
        assert all(path.read_bytes() == content for path in paths)
        assert server.requests == [0]


def test_labels_are_read_a_few_records_at_a_time(monkeypatch):
    """A record brings its image along."""

    class Records:
        most = 0

        def __len__(self):
            return 20

        def __getitems__(self, places):
            self.most = max(self.most, len(places))
            return [{"label": place % 3} for place in places]

    monkeypatch.setattr(sources, "_BATCH", 8)
    reader = types.SimpleNamespace(_label_key="label", class_names=["a", "b", "c"])
    records = Records()
    labels = sources._Reader.labels(reader, records)
    np.testing.assert_array_equal(labels, np.arange(20) % 3)
    assert records.most == 8


def test_a_truncated_file_is_an_error_and_continues_later(remote, tmp_path):
    folder, file, content = remote
    (folder / "file").write_bytes(content[:1000])
    with _Server(folder) as server:
        with pytest.raises(DownloadError, match="broke off after 1000 of 300000"):
            fetch(file, [server.url], tmp_path / "here")
        assert not (tmp_path / "here" / "file").exists()
        (folder / "file").write_bytes(content)
        fetch(file, [server.url], tmp_path / "here")
        assert server.requests[-1] == 1000


def test_a_corrupted_file_is_refused_and_the_next_mirror_asked(remote, tmp_path):
    folder, file, content = remote
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "file").write_bytes(b"x" + content[1:])
    with _Server(bad) as wrong, _Server(folder) as right:
        with pytest.raises(DownloadError, match="SHA-256"):
            fetch(file, [wrong.url], tmp_path / "here")
        path = fetch(file, [wrong.url, right.url], tmp_path / "here")
        assert path.read_bytes() == content


def test_a_missing_file_and_a_missing_server_are_told(remote, tmp_path):
    folder, file, _ = remote
    with _Server(folder) as server:
        absent = file._replace(name="absent")
        with pytest.raises(DownloadError, match="Not Found"):
            fetch(absent, [server.url], tmp_path / "here")
        url = server.url
    with pytest.raises(DownloadError, match=url):
        fetch(file, [url], tmp_path / "here")


def test_idx_to_arrayrecord(tmp_path, monkeypatch):
    """The whole way, on 20 + 10 images from a server."""
    rng = np.random.default_rng(0)
    served = tmp_path / "server"
    served.mkdir()
    files, arrays = {}, {}
    for split, count in (("train", 20), ("test", 10)):
        images = rng.integers(0, 256, (count, 28, 28))
        labels = rng.integers(0, 10, count)
        arrays[split] = images, labels
        parts = []
        for kind, array in (("images", images), ("labels", labels)):
            path = served / f"{split}-{kind}.gz"
            write_idx(path, array)
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            parts.append(RemoteFile(path.name, len(content), digest))
        files[split] = tuple(parts)
    monkeypatch.setattr(builders.Mnist, "FILES", files)
    with _Server(served) as server:
        config = Config(
            dataset="mnist", data_dir=str(tmp_path / "d"), download_url=server.url
        )
        data = load(config)
        asked = len(server.requests)
        load(config)
        assert len(server.requests) == asked == 4
    order = [image.tobytes() for image in data.eval_images[..., 0]]
    for image, label in zip(*arrays["test"], strict=True):
        place = order.index(image.astype(np.uint8).tobytes())
        assert data.eval_labels[place] == label
    assert len(data.images) == 20


def cells_archive(path: Path) -> RemoteFile:
    """Forty cells of ten slides, as the original archive has them."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(40):
            kind = ("Parasitized", "Uninfected")[i % 2]
            buffer = io.BytesIO()
            image = rng.integers(0, 256, (20 + i, 24, 3), np.uint8)
            Image.fromarray(image).save(buffer, "PNG")
            name = f"cell_images/{kind}/C{i // 4}P1ThinF_IMG_2015_cell_{i}.png"
            archive.writestr(name, buffer.getvalue())
        archive.writestr("cell_images/Uninfected/Thumbs.db", b"no image")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return RemoteFile(path.name, len(content), digest)


def test_the_archive_of_cells(tmp_path, monkeypatch):
    """The whole way; then an archive cut short, which is never taken for whole."""
    served = tmp_path / "server"
    served.mkdir()
    file = cells_archive(served / "cells.zip")
    monkeypatch.setattr(builders.Malaria, "FILE", file)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with _Server(served, breaks=1) as server:
        config = Config(
            dataset="malaria",
            image_size=16,
            data_dir=str(tmp_path / "d"),
            download_url=server.url,
        )
        data = load(config)
        assert server.requests[1] > 0  # taken up where it broke
        two = load(dataclasses.replace(config, dataset="malaria_two_channel"))
        four = load(dataclasses.replace(config, dataset="malaria_four_channel"))
        cut = dataclasses.replace(config, data_dir=str(tmp_path / "e"))
        path = served / "cells.zip"
        path.write_bytes(path.read_bytes()[:-500])
        with pytest.raises(UserError, match="broke off after"):
            load(cut)
    assert data.images.shape == (36, 16, 16, 3)
    assert data.eval_images.shape == (4, 16, 16, 3)  # one slide of ten
    assert data.class_names == ["parasitized", "uninfected"]
    assert sum(data.eval_labels) == 2
    assert two.images.shape == (36, 16, 16, 2)
    np.testing.assert_array_equal(four.images[..., :3], data.images)
    np.testing.assert_array_equal(four.images[..., 3], two.images[..., 1])
    assert not any((tmp_path / "e").glob("malaria/**/dataset_info.json"))


def factors_file(path: Path, builder: type, scale: int) -> RemoteFile:
    """Sixty images in the form of a set with factors; image i is `scale` at place i."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    numbers = rng.permuted(
        np.stack([np.arange(60) % size for size in builder.SIZES.values()], 1), axis=0
    )
    images = np.zeros((60, 64, 64, builder.CHANNELS), np.uint8)
    for i in range(60):
        images[i, i, 0] = scale
    colour = np.ones((60, 1))  # dSprites has a factor of one value in front
    values = numbers / 7 if builder.CHANNELS == 3 else np.hstack([colour, numbers / 7])
    with h5py.File(path, "w") as file:
        file[builder.IMAGES] = images.squeeze()
        file[builder.VALUES] = values
    content = path.read_bytes()
    return RemoteFile(path.name, len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("name", "builder", "scale"),
    [
        ("dsprites", factor_builders.DSprites, 1),
        ("shapes3d", factor_builders.Shapes3d, 200),
    ],
)
def test_official_files_of_sets_with_factors(
    tmp_path, monkeypatch, name, builder, scale
):
    """The whole way from a server; then a file that is another one than published."""
    served = tmp_path / "server"
    served.mkdir()
    file = factors_file(served / "factors.h5", builder, scale)
    monkeypatch.setattr(builder, "FILE", file)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with _Server(served, breaks=1) as server:
        config = Config(
            dataset=name, data_dir=str(tmp_path / "d"), download_url=server.url
        )
        data = load(config)
        altered = dataclasses.replace(config, data_dir=str(tmp_path / "e"))
        path = served / "factors.h5"
        path.write_bytes(path.read_bytes()[::-1])
        with pytest.raises(UserError, match="SHA-256 is not the published one"):
            load(altered)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(UserError, match="broke off after"):
            load(altered)
    assert data.images.shape == (54, 64, 64, builder.CHANNELS)
    assert data.class_names == builder.SHAPES
    assert list(data.eval_factors) == sorted(builder.SIZES)
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "d" / "downloads" / name / "factors.h5") as source:
        values = source[builder.VALUES][:, -len(builder.SIZES) :]
    factors = np.stack([data.eval_factors[factor] for factor in builder.SIZES], 1)
    for image, row in zip(data.eval_images, factors, strict=True):
        assert image.max() == (255 if name == "dsprites" else 200)
        (place,) = np.flatnonzero(image[:, 0].any(-1))
        np.testing.assert_allclose(row / 7, values[place], atol=1e-6)
    np.testing.assert_array_equal(data.eval_labels, data.eval_factors["shape"])


def test_a_missing_reader_of_official_files_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"--dataset=shapes3d: .*h5py is needed: pip"):
        load(Config(dataset="shapes3d", data_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "slide"),
    [
        ("Parasitized/C33P1thinF_IMG_20150619_114756a_cell_179.png", "C33P1"),
        ("C182P143NThinF_IMG_20151201_172216_cell_1.png", "C182P143N"),
        ("C202ThinF_IMG_20151005_211735_cell_65.png", "C202"),
    ],
)
def test_the_slide_of_a_cell(name, slide):
    assert builders.slide_of(name) == slide


@needs_real_data
def test_the_real_mnist_files(tmp_path):
    with _Server(REAL_DATA / "mnist") as server:
        path = fetch(
            builders.Mnist.FILES["test"][0], [server.url], tmp_path / "downloads"
        )
    assert builders.read_idx(path).shape == (10000, 28, 28)


def test_a_damaged_idx_file_is_refused(tmp_path):
    write_idx(tmp_path / "good.gz", np.zeros((2, 3)))
    assert builders.read_idx(tmp_path / "good.gz").shape == (2, 3)
    (tmp_path / "bad.gz").write_bytes((tmp_path / "good.gz").read_bytes()[:-9])
    with pytest.raises((ValueError, EOFError)):
        builders.read_idx(tmp_path / "bad.gz")


@pytest.fixture
def prepared(data_dir, tmp_path):
    """A copy of the prepared digits."""
    shutil.copytree(data_dir, tmp_path / "tfds")
    return tmp_path / "tfds" / "mnist_5k" / "1.0.0"


def record(prepared):
    return next(prepared.glob("*train*array_record*"))


def flip_a_record(prepared):
    flip(record(prepared))


def cut_records(prepared):
    cut(record(prepared))


def empty_records(prepared):
    record(prepared).write_bytes(b"")


def lose_records(prepared):
    record(prepared).unlink()


def garble(prepared):
    (prepared / "features.json").write_text("{")


def fewer_records(prepared):
    path = prepared / "dataset_info.json"
    path.write_text(path.read_text().replace('"4000"', '"10"'))


def fewer_names(prepared):
    (prepared / "label.labels.txt").write_text("0\n1\n2")


@pytest.mark.parametrize(
    "harm",
    [
        *(flip_a_record, cut_records, empty_records, lose_records),
        *(garble, fewer_records, fewer_names),
    ],
    ids=lambda harm: harm.__name__,
)
def test_a_damaged_dataset_is_no_dataset(prepared, harm):
    harm(prepared)
    with pytest.raises(
        UserError, match=r"cannot be read \(.*delete that folder"
    ) as error:
        load(Config(data_dir=str(prepared.parents[1])))
    assert "\n" not in str(error.value)


def test_records_that_break_later(prepared, by_processes):
    images = open_dataset(
        Config(data_dir=str(prepared.parents[1])), False, math.inf
    ).images
    flip_a_record(prepared)
    for read in (images.__getitem__, lambda _: images.materialize()):
        with pytest.raises(UserError, match="cannot be read"):
            read(slice(None))


@pytest.mark.parametrize("name", ["", "/", "..", "/etc", "mnist/../..", " "])
def test_names_of_datasets_that_are_none(name, tmp_path):
    with pytest.raises(UserError, match="expected the name of a dataset"):
        load(Config(dataset=f"tfds:{name}", data_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("image,group\n\n", "line 2 has no two columns"),
        ("x" * 200_000, "field larger than field limit"),
        ("", "not enough values"),
    ],
)
def test_tables_of_groups_that_are_none(content, told, tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=f"--group_csv={path}: {told}"):
        splits.read_groups(path)


def test_tfrecord_is_told_with_its_cure(tmp_path):
    folder = tmp_path / "old" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "old-train.tfrecord-00000-of-00001").write_bytes(b"")
    with pytest.raises(UserError, match="convert_format"):
        load(Config(dataset="tfds:old", data_dir=str(tmp_path)))
