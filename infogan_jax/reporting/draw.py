"""The figures of a member: grid, traversals, examples, tables, animation."""

import functools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from infogan_jax.core.latents import Categorical, Code, Continuous, main_category
from infogan_jax.data import Data
from infogan_jax.inference import Trained
from infogan_jax.pixels import spread_evenly, to_uint8
from infogan_jax.reporting import figures
from infogan_jax.run.directory import MemberFolder, Run
from infogan_jax.run.filter import Borderline
from infogan_jax.run.records import Evaluation


def draw_member(
    folder: MemberFolder,
    trained: Trained,
    data: Data,
    evaluation: Evaluation,
    measured_now: list[str],
) -> None:
    """Draws all figures of a member.

    Args:
        folder: figures/ is written there.
        trained: the member.
        data: its dataset.
        evaluation: its measures.
        measured_now: evaluators whose measures are of this dataset; older measures may
            name other held-out images.
    """
    composite = folder.config.composite
    order, names = category_order(trained, evaluation, data.class_names)
    drawing = _Drawing(folder, trained, data, order, names)
    drawing.categories()
    if trained.model.category is not None:
        drawing.examples_of_categories()
    for code in trained.model.spec:
        if code.n_params:
            drawing.traversal(code, title_of(evaluation, code.name))
        if isinstance(code, Continuous):
            drawing.members_along(code, title_of(evaluation, code.name))
    if nearest := evaluation.overall("fidelity").get("nearest"):
        drawing.nearest_training_images(nearest)
    if "code_auc" in measured_now:
        for number, row in enumerate(evaluation.rows("code_auc").values()):
            groups = row["examples"]
            picture = drawing.held_out([*groups.values()], [*groups])
            figures.save(picture, folder.figures / f"code_auc_{number}.png")
    for code_name, row in evaluation.rows("clustering").items():
        rows = _sort_by_class(row["code_to_class"])
        picture = figures.confusion(
            np.asarray(row["table"])[rows],
            [f"{code_name} {category}" for category in rows],
            data.class_names,
        )
        figures.save(picture, folder.figures / f"confusion_{code_name}.png")
    figures.animate(
        folder.frames,
        folder.figures / "training.gif",
        trained.model.image_shape,
        order,
        names,
        composite,
    )


class _Drawing:
    """The pictures of one member, rows of a grid in one order."""

    def __init__(
        self,
        folder: MemberFolder,
        trained: Trained,
        data: Data,
        order: list[int],
        names: list[str],
    ):
        self._folder, self._trained, self._data = folder.figures, trained, data
        self._order, self._names = order, names
        self._key = figures.figure_key(folder.config.seed)
        self._seed = folder.config.seed
        colours = folder.config.composite
        size = data.form.shown_pixel_size
        self._grid = functools.partial(
            figures.image_grid, colours=colours, pixel_size=size
        )

    def _save(self, picture: Image.Image, name: str) -> None:
        figures.save(picture, self._folder / f"{name}.png")

    def categories(self) -> None:
        """Generated: a row per category, columns share all else."""
        spec = self._trained.spec
        images = self._trained.generate(figures.grid_latents(self._key, spec))
        images = figures.reorder_rows(images, self._order)
        self._save(self._grid(images, figures.COLUMNS, self._names), "categories")

    def examples_of_categories(self) -> None:
        """Held-out images of each category, from the surest to the least sure."""
        probabilities = self._trained.category_probabilities(self._data.eval_images)
        examples = examples_by_category(probabilities)
        picture = self.held_out([examples[k] for k in self._order], self._names)
        self._save(picture, "members")

    def traversal(self, code: Code, title: str) -> None:
        """A code along each row, all else being equal."""
        model = self._trained.model
        latents = figures.traverse_latents(self._key, self._trained.spec, code.name)
        images = self._trained.generate(latents)
        if code is model.category:
            by_row = images.reshape(-1, code.dim, *images.shape[1:])
            images = by_row[:, self._order].reshape(images.shape)
            picture = self._grid(images, code.dim, (), self._names)
        else:
            columns = len(images) // len(self._order)
            values = np.asarray(figures.traversal_values(code, columns))
            labels = [f"{value:.1f}" for value in values[:, 0]]
            if isinstance(code, Categorical):
                labels = [str(k) for k in range(columns)]
            images = figures.reorder_rows(images, self._order)
            picture = self._grid(images, columns, self._names, labels, title)
        self._save(picture, f"traverse_{code.name}")

    def members_along(self, code: Continuous, title: str) -> None:
        """Held-out images from a code's lowest value to its highest."""
        images = self._data.eval_images
        values = self._trained.infer_codes(images)[code.name][:, 0]
        chosen = examples_along(values, figures.COLUMNS)
        labels = [f"{value:.1f}" for value in values[chosen].mean(0)]
        picture = self._grid(
            images[chosen.ravel()],
            figures.COLUMNS,
            ["real"] * len(chosen),
            labels,
            title,
        )
        self._save(picture, f"members_{code.name}")

    def nearest_training_images(self, indices: list[int]) -> None:
        """Generated images, and below each the training image most like it."""
        from infogan_jax.evaluation import fidelity  # imports large packages

        made = to_uint8(fidelity.sample(self._trained, self._seed, len(indices)))
        real = self._data.images[np.array(indices)]
        columns = figures.COLUMNS
        rows = [
            part
            for start in range(0, len(indices), columns)
            for part in (made[start : start + columns], real[start : start + columns])
        ]
        names = ["generated", "nearest"] * (len(rows) // 2)
        self._save(self._grid(np.concatenate(rows), columns, names), "nearest")

    def held_out(self, groups: Sequence, names: list[str]) -> Image.Image:
        """Held-out images, a row for each group of indices, blank where it ends."""
        images = self._data.eval_images
        rows, columns = _in_rows([images[np.array(some, int)] for some in groups])
        return self._grid(rows, columns, names)


def _in_rows(groups: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """Groups of images, each filled with blanks to a whole row; and the columns."""
    columns = max(1, *map(len, groups))
    rows = [np.pad(some, [(0, columns - len(some)), *[(0, 0)] * 3]) for some in groups]
    return np.concatenate(rows), columns


def draw_real_images(run: Run, data: Data) -> None:
    """Draws figures/real.png: training images, as the networks see them."""
    some = data.images[: figures.ROWS * figures.COLUMNS]
    picture = figures.image_grid(some, figures.COLUMNS, colours=run.config.composite)
    figures.save(picture, run.figures / "real.png")


def draw_dropped(run: Run, dropped: dict[str, np.ndarray]) -> None:
    """Draws figures/dropped.png: images that were left out, a row for each kind."""
    rows, columns = _in_rows(list(dropped.values()))
    picture = figures.image_grid(
        rows, columns, list(dropped), colours=run.config.composite
    )
    figures.save(picture, run.figures / "dropped.png")


def draw_borderline(run: Run, examples: Borderline) -> None:
    """Draws figures/filter.png: kept images above dropped ones, with probabilities."""
    columns, images, labels = figures.COLUMNS, [], []
    for name, some, probability in (
        ("kept", examples.kept, examples.kept_probability),
        ("dropped", examples.dropped, examples.dropped_probability),
    ):
        blank = [(0, -len(some) % columns), *[(0, 0)] * 3]
        images.append(np.pad(some, blank))
        firsts = probability[::columns]
        labels += [f"{name} {first:.3f}" for first in firsts]
    picture = figures.image_grid(
        np.concatenate(images), columns, labels, colours=run.config.composite
    )
    figures.save(picture, run.figures / "filter.png")


def category_order(
    trained: Trained, evaluation: Evaluation | None, class_names: list[str]
) -> tuple[list[int], list[str]]:
    """Returns the rows of a grid in the order of their classes, and their labels.

    Without a map from categories to classes the rows are in the order of the code;
    without a categorical code they have no labels.
    """
    category = main_category(trained.spec)
    if category is None:
        return list(range(figures.ROWS)), []
    labels = evaluation.code_to_class(category.name) if evaluation else []
    labels = labels or [None] * category.size  # then in the order of the code
    order = _sort_by_class(labels)
    names = [
        f"code {c}" if (label := labels[c]) is None else class_names[label]
        for c in order
    ]
    if category.prior is not None:  # uneven categories, with their frequencies
        shares = [f"{category.prior[c]:.1%}" for c in order]
        names = [", ".join(pair) for pair in zip(names, shares, strict=True)]
    return order, names


def title_of(evaluation: Evaluation, code: str) -> str:
    """Returns a code with the property that it was named after, if it was measured."""
    row = evaluation.rows("traversal").get(code)
    if row is None:
        return code
    name = row["name"]
    r2 = f" (R2 {row['r2'][name]:.2f})" if name in row["r2"] else ""
    return f"{code}: {name}{r2}"


def examples_by_category(probabilities: np.ndarray) -> list[np.ndarray]:
    """Returns indices of images of each category, evenly by falling probability.

    Args:
        probabilities: of each category, `[N, size]`.
    """
    category, examples = probabilities.argmax(1), []
    for k in range(probabilities.shape[1]):
        places = np.flatnonzero(category == k)
        places = places[np.argsort(-probabilities[places, k], kind="stable")]
        examples.append(spread_evenly(places, figures.COLUMNS))
    return examples


def examples_along(values: np.ndarray, columns: int) -> np.ndarray:
    """Returns indices of images from low values to high, `[2, columns]`.

    Column i has two images around the quantile (i + 1/2) / columns.
    """
    order = np.argsort(values, kind="stable")
    middle = (np.arange(columns) + 0.5) / columns * len(order)
    places = middle.astype(int) + np.array([[-1], [0]])
    return order[np.clip(places, 0, len(order) - 1)]


def _sort_by_class(code_to_class: list[int | None]) -> list[int]:
    """The categories in the order of their classes, those without one last."""

    def place(category: int) -> tuple[float, int]:
        label = code_to_class[category]
        return (math.inf if label is None else label, category)

    return sorted(range(len(code_to_class)), key=place)
