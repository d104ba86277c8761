"""The widget: which layers, a table of codes, sliders."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import (
    ComboBox,
    Container,
    FileEdit,
    FloatSlider,
    Label,
    PushButton,
    Select,
)
from napari.layers import Image, Labels
from napari.utils.colormaps import DirectLabelColormap, label_colormap
from napari.utils.notifications import show_info

from napari_infogan.model import Exported, stack_channels

if TYPE_CHECKING:
    from napari.components import ViewerModel

_PICTURE = "generated cell"


class CodesWidget(Container):
    """Codes of the cells of a labels layer."""

    def __init__(self, viewer: "ViewerModel"):
        super().__init__()
        self._viewer = viewer
        self._exported: Exported | None = None
        self._sliders: dict[str, Any] = {}
        self.folder = FileEdit(mode="d", label="exported run")
        self.images = Select(label="channels", choices=self._image_layers)
        self.labels = ComboBox(label="labels", choices=self._label_layers)
        self.read = PushButton(text="Read cells")
        self.message = Label(value="")
        self.codes = Container(labels=True)
        self.extend(
            [self.folder, self.images, self.labels, self.read, self.message, self.codes]
        )
        self.folder.changed.connect(self.open)
        self.read.clicked.connect(self.read_cells)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(lambda: self.reset_choices())

    def _image_layers(self, _: Any = None) -> list[Image]:
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        return [layer for layer in layers if layer.name != _PICTURE]

    def _label_layers(self, _: Any = None) -> list[Labels]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Labels)]

    def open(self, folder: Path) -> None:
        """Loads an exported run, and makes a slider for each of its codes."""
        self._exported = None
        self.codes.clear()
        self._sliders = {}
        try:
            self._exported = Exported(Path(folder))
        except ValueError as error:
            self._tell(str(error))
            return
        for code in self._exported.codes:
            name = code["name"]
            title = code.get("meaning") or name
            if code["kind"] in ("categorical", "bernoulli"):
                labels = code["labels"]
                choices = [(w or f"{name} {k}", k) for k, w in enumerate(labels)]
                slider: Any = ComboBox(label=title, choices=choices)
            else:
                low, high = code["allowed"]
                slider = FloatSlider(label=title, min=low, max=high, value=0)
            slider.changed.connect(self.show_cell)
            self._sliders[name] = slider
            self.codes.append(slider)
        self._tell("")
        self.show_cell()

    def read_cells(self) -> None:
        """Writes the codes into the layer's features, and colours it by category."""
        layer = self.labels.value
        if self._exported is None or layer is None or not self.images.value:
            self._tell("choose an exported run, its channels and a labels layer")
            return
        try:
            layers = [np.asarray(image.data) for image in self.images.value]
            field = stack_channels(layers, self._exported.channels)
            table = self._exported.read_cells(field, np.asarray(layer.data))
        except ValueError as error:
            self._tell(str(error))
            return
        # napari looks features up by `index`; columns of others stay
        table = table.assign(index=table["label"])
        former = layer.features
        if "index" in former:
            others = former[["index", *former.columns.difference(table.columns)]]
            layer.features = table.merge(others, "left", on="index")
        else:
            layer.features = table
        if "category" in table:
            layer.colormap = self._colours(table)
        if self._on_click not in layer.mouse_drag_callbacks:
            layer.mouse_drag_callbacks.append(self._on_click)
        count = np.count_nonzero(np.unique(layer.data))
        self._tell(f"{len(table)} of {count} objects; others touch the edge")

    def _colours(self, table: Any) -> DirectLabelColormap:
        assert self._exported is not None and self._exported.category is not None
        colours = label_colormap(self._exported.category["dim"] + 1).colors[1:]
        by_label = zip(table["label"], table["category"], strict=True)
        table = {int(label): colours[int(kind)] for label, kind in by_label}
        return DirectLabelColormap(color_dict={**table, None: (0, 0, 0, 0)})

    def _on_click(self, layer: Labels, event: Any) -> None:
        """Sets the sliders to what Q reads in the object that was clicked."""
        label = layer.get_value(event.position, world=True)
        features = layer.features
        if self._exported is None or not {*self._exported.columns} <= {*features}:
            return
        rows = features[features["index"] == label]
        if rows.empty:
            return
        for name, value in self._exported.values_of(rows.iloc[0]).items():
            slider = self._sliders[name]
            if isinstance(slider, FloatSlider):
                value = min(max(value, slider.min), slider.max)
            elif isinstance(value, float):
                value = int(value > 0.5)
            slider.value = value

    def show_cell(self) -> None:
        """Draws the generator's cell of the sliders into a layer of its own."""
        if self._exported is None:
            return
        values = {name: slider.value for name, slider in self._sliders.items()}
        picture = np.moveaxis(self._exported.generate(values), -1, 0)
        if _PICTURE in self._viewer.layers:
            self._viewer.layers[_PICTURE].data = picture
        else:
            self._viewer.add_image(picture, name=_PICTURE, contrast_limits=(0, 1))

    def _tell(self, text: str) -> None:
        self.message.value = text
        if text:
            show_info(text)
