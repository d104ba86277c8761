"""Rare infection: red blood cells of which one in twenty is infected, without labels.

    python -m experiments.rare_cells --flagfile=malaria_cpu --group_csv=slides.csv.gz

All uninfected cells of the slides that are trained on, and as many infected ones as the
frequency asks for; held-out cells are as they are, for an AUC asks for no frequency.
Labels choose the set, and measure.
"""

import dataclasses
import time
from typing import Any

import numpy as np
from absl import app, flags, logging

from experiments.in_memory import fit
from infogan_jax.data import load
from infogan_jax.evaluation import code_auc
from infogan_jax.flags import config_from_flags, parse_flags

FLAGS = flags.FLAGS
flags.DEFINE_float("frequency", 0.05, "Of infected cells, from 0 to 1.")

_OBJECTIVES: dict[str, dict[str, Any]] = {
    "two": {},
    "two_no_entropy": {"entropy_weight": 0.0},
    "two_learned": {"codes": "cat:2:prior=learned,uniform:2,noise:62"},
    "ten": {"codes": "cat:10,uniform:2,noise:62"},
}


def main(_):
    logging.set_verbosity(logging.ERROR)  # Orbax has much to say
    config = config_from_flags()
    data = load(config, with_labels=True)
    labels, eval_labels = np.asarray(data.labels), np.asarray(data.eval_labels)
    infected = data.class_names.index("parasitized")
    chosen = choose(labels == infected, FLAGS.frequency, config.seed)
    images = data.images[:][chosen]
    rate = (labels[chosen] == infected).mean()
    print(f"{len(chosen):,} cells, {rate:.1%} of them infected")
    print("| objective | AUC | code | cells held out by category, infected | minutes |")
    print("|---|---|---|---|---|", flush=True)
    for name in FLAGS.objectives or _OBJECTIVES:
        start = time.perf_counter()
        trained = fit(dataclasses.replace(config, **_OBJECTIVES[name]), images)
        scores = trained.read_codes(data.eval_images)
        row = code_auc.measures(scores, eval_labels == infected)
        (categories,) = trained.infer_categories(data.eval_images).values()
        table = [
            f"{count} {(eval_labels[categories == k] == infected).mean():.0%}"
            for k, count in enumerate(np.bincount(categories))
            if count
        ]
        minutes = (time.perf_counter() - start) / 60
        columns = f"{row['auc']:.3f}", row["code"], "; ".join(table), f"{minutes:.1f}"
        print(f"| {name} | {' | '.join(columns)} |", flush=True)


def choose(is_rare: np.ndarray, frequency: float, seed: int) -> np.ndarray:
    """Indices of all common images, and of rare ones up to a frequency."""
    common, rare = np.flatnonzero(~is_rare), np.flatnonzero(is_rare)
    count = min(len(rare), round(len(common) * frequency / (1 - frequency)))
    rng = np.random.default_rng(seed)
    return rng.permutation(np.concatenate([common, rng.permutation(rare)[:count]]))


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
