"""Several seeds side by side: measured, and one of them chosen without a label."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from infogan_jax import workdir as runs
from infogan_jax.config import Config
from infogan_jax.data import Data
from infogan_jax.evaluation.clustering import infer_categories
from infogan_jax.latents import main_category, parse_spec
from infogan_jax.report import describe, report
from infogan_jax.state import TrainState
from infogan_jax.writers import write_atomically

_SAMPLE = 5000  # images that the replicas are compared on


def agreement(categories: list[np.ndarray]) -> np.ndarray:
    """How alike the replicas sort the same images: NMI of each pair, `[R, R]`.

    A replica that gives all images one category agrees with none, itself included.

    Args:
        categories: of each replica, int `[N]`; their names need not correspond.
    """

    def nmi(a, b):
        if len(set(a)) == 1 or len(set(b)) == 1:
            return 0.0
        return normalized_mutual_info_score(a, b)

    return np.array([[nmi(a, b) for b in categories] for a in categories])


def medoid(matrix: np.ndarray) -> int:
    """The replica that agrees best with all the others."""
    return int(np.argmax(matrix.sum(1)))


def report_all(
    states: list[TrainState], config: Config, data: Data, workdir: Path
) -> int:
    """Measures, draws and describes a run of any number of replicas.

    It chooses one as `compare` says, without labels; those of held-out images only tell
    which rank that choice has.

    Returns:
        The place of the chosen replica.
    """
    folders = runs.replica_folders(workdir, config)
    results = [
        report(state, alone, data, folder)
        for state, alone, folder in zip(states, config.replicas(), folders, strict=True)
    ]
    chosen = 0
    if len(states) > 1:
        table = compare(states, results, config, data)
        chosen = [row["seed"] for row in table["replicas"]].index(table["chosen"])
        write_atomically(workdir / "replicas.json", json.dumps(table, indent=2) + "\n")
        print("\n".join(_lines(table)))
    print("\n".join(describe(results[chosen], data)))
    return chosen


def compare(
    states: list[TrainState], results: list[dict], config: Config, data: Data
) -> dict:
    """The table of the replicas, and the choice.

    Of three or more the medoid is chosen, by agreement on training images; of two,
    which agree with each other alike, the one with the higher I(c; x).

    Args:
        states: of the replicas.
        results: what `report` found of each.
        config: of all of them.
        data: the choice looks at the training images only.

    Returns:
        What replicas.json holds: for each replica its seed, its mean `agreement` with
        the others (NMI), its `unlabelled` scores, and, where there are labels, its
        `accuracy` and `rank`; the seed that is `chosen`, and why.
    """
    category = main_category(parse_spec(config.codes))
    names, reached = zip(*[_reached(r, category) for r in results], strict=True)
    score = np.array(reached)
    if category is not None:
        images = data.images[:_SAMPLE]
        matrix = agreement(
            [infer_categories(s, images, config)[category.name] for s in states]
        )
        score = (matrix.sum(1) - matrix.diagonal()) / (len(states) - 1)
    if category is not None and len(states) > 2:
        chosen, why = medoid(matrix), "it agrees best with the others, in NMI"
    elif "unlabelled" in results[0]:
        rank = "the highest" if category is None else "higher"
        chosen, why = int(np.argmax(reached)), f"its {names[0]} is {rank}, in nats"
    else:
        chosen, why = 0, "the first one, for --evaluators lacks unlabelled"
    rows: list[dict] = [
        {"seed": alone.seed, "score": float(value), **_measures(result, category)}
        for alone, value, result in zip(config.replicas(), score, results, strict=True)
    ]
    accuracies = [row.get("accuracy") for row in rows]
    if None not in accuracies:
        for row in rows:
            row["rank"] = 1 + sum(a > row["accuracy"] for a in accuracies)
    return {"chosen": rows[chosen]["seed"], "because": why, "replicas": rows}


def _reached(result: dict, category) -> tuple[str, float]:
    """I(c; x) where it was measured, else the bound on I(c; G), and its name."""
    codes = result.get("unlabelled", {})
    if category is None:
        bounds = [code["bound"] for code in codes.values() if isinstance(code, dict)]
        return "bound I(c; G)", sum(bounds)
    found = codes.get(category.name, {})
    if "information_real" in found:
        return "I(c; x)", found["information_real"]
    return "bound I(c; G)", found.get("bound", 0.0)


def _measures(result: dict, category) -> dict:
    if category is None:
        return {}
    found = dict(result.get("unlabelled", {}).get(category.name, {}))
    values = result.get("clustering", {}).get(category.name)
    if isinstance(values, dict):
        found["accuracy"] = values["accuracy"]
    return found


_COLUMNS = {  # of the printed table
    "seed": "{}",
    "score": "{:.3f}",
    "information_real": "{:.3f}",
    "balance": "{:.3f}",
    "consistency": "{:.3f}",
    "accuracy": "{:.4f}",
    "rank": "{}",
}


def table_rows(table: dict) -> list[list[str]]:
    """What `compare` found as cells of text, a header first."""
    rows = table["replicas"]
    columns = [name for name in _COLUMNS if name in rows[0]]
    cells = [[_COLUMNS[name].format(row[name]) for name in columns] for row in rows]
    return [columns, *cells]


def summary(shares: Sequence[float]) -> str:
    """Shares of several replicas, such as accuracies, in a line."""
    if len(shares) == 1:
        return f"{shares[0]:.2%}"
    return (
        f"median {np.median(shares):.2%}, mean {np.mean(shares):.2%}, worst "
        f"{min(shares):.2%}, best {max(shares):.2%}"
    )


def _lines(table: dict) -> list[str]:
    rows = table["replicas"]
    header, *cells = table_rows(table)
    lines = ["  ".join(header)]
    for row in cells:
        aligned = (c.rjust(len(name)) for c, name in zip(row, header, strict=True))
        lines.append("  ".join(aligned))
    if "accuracy" in rows[0]:
        values = [row["accuracy"] for row in rows]
        lines.append(f"accuracy of {len(rows)} seeds: {summary(values)}")
    lines.append(f"chosen without labels: seed {table['chosen']}; {table['because']}")
    return lines
