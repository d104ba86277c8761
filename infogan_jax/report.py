"""Measuring and drawing a trained state: evaluation.json and figures/."""

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from infogan_jax import figures
from infogan_jax import workdir as runs
from infogan_jax.classifier import ClassifierState
from infogan_jax.config import Config
from infogan_jax.data import Data
from infogan_jax.evaluation import evaluator_names, load_evaluator
from infogan_jax.evaluation.inference import apply, read_codes, shares_of
from infogan_jax.latents import Categorical, main_category, parse_spec
from infogan_jax.state import TrainState
from infogan_jax.steps import generate
from infogan_jax.writers import write_atomically


def evaluate(state: TrainState, config: Config, data: Data) -> dict:
    """All measures that the config asks for, on images the objective never saw."""
    return {
        name: load_evaluator(name)(state, config, data)
        for name in evaluator_names(config)
    }


def evaluation_metrics(results: dict) -> dict[str, float]:
    """The numbers among the results, as `eval/code/measure`."""
    return {
        f"eval/{code}/{name}": value
        for measures in results.values()
        for code, values in measures.items()
        if isinstance(values, dict)
        for name, value in values.items()
        if isinstance(value, float)
    }


def report(state: TrainState, config: Config, data: Data, folder: Path) -> dict:
    """Evaluates, and writes evaluation.json and the figures into the folder.

    Other measures of the same step, from an earlier evaluation, are kept.
    """
    results = {"step": int(state.step), "images": len(data.eval_images)}
    results = runs.load_evaluation(folder, results["step"]) | results
    if config.classifier:
        results["classifier"] = config.classifier
    results |= evaluate(state, config, data)
    write_atomically(folder / "evaluation.json", json.dumps(results, indent=2) + "\n")
    _draw(state, config, data, folder / "figures", results)
    image_shape = data.images.shape[1:]
    order, names = category_order(config, results, data)
    figures.animate(folder, image_shape, order, names, config.composite)
    return results


def describe(results: dict, data: Data) -> list[str]:
    """What `report` found, in a few lines."""
    found = results.get("clustering", {})
    lines = [f"not measured: {found['skipped']}"] if "skipped" in found else []
    for code, values in found.items():
        if not isinstance(values, dict):
            continue
        lines.append(
            f"{code}: {values['accuracy']:.2%} of {results['images']:,} held-out "
            f"images right by one-to-one matching (purity {values['purity']:.3f}, NMI "
            f"{values['nmi']:.3f}, ARI {values['ari']:.3f})"
        )
        named = [
            f"{category} is {'no class' if label is None else data.class_names[label]}"
            for category, label in enumerate(values["code_to_class"])
        ]
        lines.append(f"{code}: {', '.join(named)}")
        lines += [f"warning: {code}: {text}" for text in values["warnings"]]
    for code, values in results.get("generation", {}).items():
        if isinstance(values, dict):
            lines.append(
                f"{code}: {values['asked_is_got']:.2%} of the pictures are what was "
                "asked for"
            )
    found = results.get("fidelity", {})
    if "generated" in found:
        made, real = found["generated"], found["floor"]
        lines.append(
            f"FID {made['fid']:.2f} (real images {real['fid']:.2f}), recall "
            f"{made['recall']:.2f} ({real['recall']:.2f}), {found['images']:,} images, "
            f"features of {found['extractor']}"
        )
    for name, values in results.get("detection", {}).items():
        if isinstance(values, dict):
            lines.append(f"{name}: AUC {values['auc']:.3f} by {values['code']}")
    found = results.get("unlabelled", {})
    return lines + [f"warning: {text}" for text in found.get("warnings", [])]


def report_classifier(
    state: ClassifierState, config: Config, data: Data, workdir: Path
) -> list[str]:
    """Evaluates a classification network, draws its errors, and says what it found."""
    from infogan_jax.evaluation import classification  # large packages

    results = {"step": int(state.step), "images": len(data.eval_images)}
    results |= classification.measure(state, config, data)
    write_atomically(workdir / "evaluation.json", json.dumps(results, indent=2) + "\n")
    table = np.asarray(results["table"])
    names = [f"said {name}" for name in data.class_names]
    picture = figures.confusion(table, names, data.class_names)
    figures.save(picture, workdir / "figures" / "confusion.png")
    return [
        f"{results['accuracy']:.2%} of {results['images']:,} held-out images right",
        f"pictures are in {workdir / 'figures'}",
    ]


def category_order(
    config: Config, results: dict, data: Data
) -> tuple[list[int], list[str]]:
    """The rows of a grid in the order of their classes, and what to write beside them.

    The map from categories to classes is that of the results; without one the rows stay
    in the order of the code, and without a categorical code they have no names.
    """
    category = main_category(parse_spec(config.codes))
    if category is None:
        return list(range(figures.ROWS)), []
    values = results.get("clustering", {}).get(category.name)
    if not isinstance(values, dict):
        return list(range(category.size)), [f"code {c}" for c in range(category.size)]
    labels = values["code_to_class"]
    order = _by_class(labels)
    return order, [
        f"code {c}" if labels[c] is None else data.class_names[labels[c]] for c in order
    ]


def title_of(results: dict, code: str) -> str:
    """A code with what it was found to do, if its property was measured."""
    found = results.get("factors", {}).get(code)
    if not isinstance(found, dict):
        return code
    name = found["name"]
    r2 = f" (R2 {found['r2'][name]:.2f})" if name in found["r2"] else ""
    return f"{code}: {name}{r2}"


def _by_class(code_to_class: list[int | None]) -> list[int]:
    """The categories in the order of their classes, those without one last."""
    return sorted(
        range(len(code_to_class)),
        key=lambda c: (math.inf if code_to_class[c] is None else code_to_class[c], c),
    )


def _draw(state, config, data, folder: Path, results) -> None:
    """The grid, a traversal per code, and the table of each category."""
    spec = parse_spec(config.codes)
    key = figures.figure_key(config.seed)
    category = main_category(spec)
    order, names = category_order(config, results, data)

    def make(latents):
        return apply(generate, state, latents, config)

    grid = figures.in_order(make(figures.grid_latents(key, spec)), order)
    sheet = functools.partial(figures.sheet, colours=config.composite)
    figures.save(sheet(grid, figures.COLUMNS, names), folder / "categories.png")
    if category is not None:
        codes = read_codes(state, data.eval_images, config)
        members = _members(shares_of(category, codes))
        picture = _held_out(config, data, [members[k] for k in order], names)
        figures.save(picture, folder / "members.png")
    for code in spec:
        if not code.n_params:
            continue
        images = make(figures.traverse_latents(key, spec, code.name))
        if code is category:
            by_row = images.reshape(-1, code.dim, *images.shape[1:])
            images = by_row[:, order].reshape(images.shape)
            picture = sheet(images, code.dim, (), names)
        else:
            columns = len(images) // len(order)
            values = code.traverse(columns, figures.LOW, figures.HIGH)
            labels = [f"{value:.1f}" for value in np.asarray(values)[:, 0]]
            if isinstance(code, Categorical):
                labels = [str(k) for k in range(columns)]
            images = figures.in_order(images, order)
            title = title_of(results, code.name)
            picture = sheet(images, columns, names, labels, title)
        figures.save(picture, folder / f"traverse_{code.name}.png")
    if "nearest" in results.get("fidelity", {}):
        picture = _nearest(state, config, data, results["fidelity"]["nearest"])
        figures.save(picture, folder / "nearest.png")
    # Of this evaluation only: an earlier one may have had other images
    found = results["detection"] if "detection" in evaluator_names(config) else {}
    for number, values in enumerate(found.values()):
        if isinstance(values, dict):
            examples = values["examples"]
            picture = _held_out(config, data, [*examples.values()], [*examples])
            figures.save(picture, folder / f"detection_{number}.png")
    for code, values in results.get("clustering", {}).items():
        if isinstance(values, dict):
            codes = _by_class(values["code_to_class"])
            picture = figures.confusion(
                np.asarray(values["table"])[codes],
                [f"{code} {c}" for c in codes],
                data.class_names,
            )
            figures.save(picture, folder / f"confusion_{code}.png")


def _members(shares: np.ndarray) -> list[np.ndarray]:
    """Places of images of each category, evenly from the surest to the least sure.

    Args:
        shares: each category's probability, `[N, size]`.
    """
    category, found = shares.argmax(1), []
    for k in range(shares.shape[1]):
        places = np.flatnonzero(category == k)
        places = places[np.argsort(-shares[places, k], kind="stable")]
        found.append(figures.evenly(places, figures.COLUMNS))
    return found


def _held_out(config: Config, data: Data, places: Sequence, names: list[str]):
    """Held-out images, a row for each group of places, blank where it has no more."""
    columns = max(1, *map(len, places))
    rows = [
        np.pad(data.eval_images[some], [(0, columns - len(some)), *[(0, 0)] * 3])
        for some in (np.array(some, int) for some in places)
    ]
    return figures.sheet(np.concatenate(rows), columns, names, colours=config.composite)


def _nearest(state, config: Config, data: Data, places: list[int]):
    """Generated pictures, and below each the training image most like it."""
    from infogan_jax.evaluation import fidelity  # large packages

    made = figures.to_uint8(fidelity.sample(state, config, len(places)))
    real = data.images[np.array(places)]
    columns = figures.COLUMNS
    rows = [
        part
        for start in range(0, len(places), columns)
        for part in (made[start : start + columns], real[start : start + columns])
    ]
    names = ["generated", "nearest"] * (len(rows) // 2)
    colours = config.composite
    return figures.sheet(np.concatenate(rows), columns, names, colours=colours)
