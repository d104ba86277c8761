"""The plug-in without a screen: QT_QPA_PLATFORM=offscreen pytest plugins/napari."""

import jax
import numpy as np
import pandas as pd
import pytest

npe2 = pytest.importorskip("npe2")
pytest.importorskip("napari")
pytest.importorskip("pytestqt")

from napari.components import ViewerModel  # noqa: E402
from napari_infogan.model import Exported, stack_channels  # noqa: E402
from napari_infogan.widget import CodesWidget  # noqa: E402

from infogan_jax import Config  # noqa: E402
from infogan_jax.apps.export import export  # noqa: E402
from infogan_jax.data import Form  # noqa: E402
from infogan_jax.run.checkpoints import Checkpoints  # noqa: E402
from infogan_jax.run.directory import Run  # noqa: E402
from infogan_jax.run.records import INFOGAN, RunInfo  # noqa: E402


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An untrained run of two channels of 16 bits, in windows of 24 pixels."""
    workdir = tmp_path_factory.mktemp("run") / "cells"
    workdir.mkdir()
    config = Config(
        dataset="folder:cells",
        image_size=16,
        architecture="dcgan",
        base_channels=4,
        codes="cat:3,uniform:1,bernoulli:1,noise:4",
    )
    form = Form([(100.0, 4000.0), (50.0, 900.0)], longest=24)
    info = RunInfo(INFOGAN, config, (16, 16, 2), [], form=form)
    info.with_environment().write(workdir / "config.json")
    run = Run(workdir, info)
    state = run.model.init(jax.random.key(0))
    params = jax.tree.map(lambda x: 9 * x, state.discriminator.params)
    discriminator = state.discriminator.replace(params=params)
    checkpoints = Checkpoints(workdir, 1)
    checkpoints.save(1, state.replace(discriminator=discriminator))
    checkpoints.close()
    return export(Run.open(workdir), workdir / "exported")


@pytest.fixture(scope="module")
def field():
    """Nine discs, one of which touches the edge: `[2, H, W]`, labels `[H, W]`."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:100, :100]
    image, labels = rng.normal(120, 5, (2, 100, 100)), np.zeros((100, 100), int)
    for i in range(9):
        row, column = 18 + 32 * (i // 3), 18 + 32 * (i % 3)
        inside = (y - row) ** 2 + (x - column) ** 2 < (9 if i else 20) ** 2
        labels[inside] = i + 1
        image[:, inside] += rng.uniform(200, 3000, 2)[:, None]
    return image.astype(np.uint16), labels


def test_the_manifest_is_valid():
    manifest = npe2.PluginManifest.from_distribution("napari-infogan")
    manifest.validate_imports()
    assert manifest.contributions.widgets[0].display_name == "Codes of cells"


def test_codes_are_those_of_the_windows(exported, field):
    image, labels = field
    model = Exported(exported)
    stacked = stack_channels([image], 2)
    np.testing.assert_array_equal(stacked, stack_channels(list(image), 2))
    table = model.read_cells(stacked, labels)
    assert table["label"].tolist() == list(range(2, 10))
    shares = table[["cat_0", "cat_1", "cat_2"]].to_numpy()
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(shares.argmax(1), table["category"])
    picture = model.generate(model.values_of(table.iloc[0]))
    assert picture.shape == (16, 16, 2)
    with pytest.raises(ValueError, match="2 channels; this network reads 3"):
        stack_channels([image], 3)
    chosen = model.about["image"]["preparation"] | {"channels": "2,1"}
    model.about["image"]["preparation"] = chosen  # in files; layers are chosen already
    pd.testing.assert_frame_equal(model.read_cells(stacked, labels), table)
    with pytest.raises(ValueError, match="labels of 3 dimensions"):
        model.read_cells(stacked, labels[None])
    with pytest.raises(ValueError, match="no object that is whole"):
        model.read_cells(stacked, np.ones_like(labels))


def test_a_person_reads_cells_and_clicks_on_one(exported, field, qapp):
    """In a viewer without a canvas, for which there may be no OpenGL."""
    image, labels = field
    viewer = ViewerModel()
    channels = [viewer.add_image(x, name=n) for x, n in zip(image, "ab", strict=True)]
    layer = viewer.add_labels(labels)
    layer.features = {"index": range(1, 10), "area": range(9)}  # of another program
    widget = CodesWidget(viewer)
    widget.read_cells()
    assert "choose an exported run" in widget.message.value
    widget.open(exported / "nothing")
    assert "expected a folder of infogan --mode=export" in widget.message.value
    widget.open(exported)
    widget.reset_choices()
    widget.images.value, widget.labels.value = channels, layer
    widget.read_cells()
    assert widget.message.value == "8 of 9 objects; others touch the edge"
    table = layer.features
    assert (table["index"] == table["label"]).all()
    assert table["area"].tolist() == list(range(1, 9))
    same = table[table["category"] == table["category"].iloc[0]]["label"]
    colours = {tuple(layer.colormap.map(label)) for label in same}
    assert len(colours) == 1
    # A click on an object sets the sliders, and they draw
    before = viewer.layers["generated cell"].data.copy()
    event = type("Event", (), {"position": (18, 50)})
    widget._on_click(layer, event)
    row = table[table["label"] == 2].iloc[0]
    wanted = np.clip(row["uniform"], -2, 2)
    assert widget._sliders["uniform"].value == pytest.approx(wanted, abs=1e-2)
    assert not np.array_equal(before, viewer.layers["generated cell"].data)
