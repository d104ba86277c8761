"""Uneven categories: digits whose frequencies differ, told apart without labels.

    python -m experiments.uneven_digits --flagfile=quickstart --dataset=mnist

Ten sets of MNIST's digits with frequencies from Dirichlet(2, .., 2), as Elastic-InfoGAN
has random ones; then frequencies that fall from digit to digit, ten and fifty times in
all, the digits in random order; then even ones. Each set with each objective.
Held-out digits are weighted by the set's frequencies. With `--eval_classifier`, a work
directory of `classifier.cfg`, generated digits are measured too: the normalised mutual
information of the category that each is made for and the digit that it shows, and the
entropy of the digits of a category.

Reference: Ojha et al. 2020, Elastic-InfoGAN, arXiv:1910.01112, section 4.
"""

import dataclasses
import time
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from experiments.in_memory import fit
from infogan_jax import Trained
from infogan_jax.core.latents import split_latents
from infogan_jax.data import load
from infogan_jax.evaluation import conditional_accuracy
from infogan_jax.evaluation.clustering import contingency, match, purity
from infogan_jax.flags import config_from_flags, parse_flags
from infogan_jax.inference import TrainedClassifier
from infogan_jax.run.dataset import load_eval_classifier

FLAGS = flags.FLAGS
flags.DEFINE_integer("set_size", 10_000, "Images of each set.")
flags.DEFINE_list("sets", None, "Of random0 to 9, tail10, tail50, even; default: all.")

_CLASSES = 10
_PICTURES = 10_000
_COUNTED = 100_000  # images that a weighted table stands for
_SETS = [*(f"random{k}" for k in range(10)), "tail10", "tail50", "even"]
_OBJECTIVES: dict[str, dict[str, Any]] = {
    "even": {},
    "no_entropy": {"entropy_weight": 0.0},
    "twenty": {
        "codes": "cat:20:prior=learned,uniform:2,noise:62",
        "pseudo_label_step": 1,
    },
    "learned": {
        "codes": "cat:10:prior=learned,uniform:2,noise:62",
        "pseudo_label_step": 1,
    },
}


def main(_):
    logging.set_verbosity(logging.ERROR)  # Orbax has much to say
    config = config_from_flags()
    data = load(config, with_labels=True)
    images, labels = data.images[:], np.asarray(data.labels)
    classifier = load_eval_classifier(config, data)
    columns = "accuracy | purity | NMI | ARI | rarest | least recalled"
    pictures = "pictures' NMI | their entropy, nats"
    print(f"| set | objective | {columns} | {pictures} | minutes |")
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in FLAGS.sets or _SETS:
        wanted = frequencies(name)
        chosen = draw(labels, wanted, FLAGS.set_size, config.seed)
        for objective in FLAGS.objectives or _OBJECTIVES:
            start = time.perf_counter()
            changed = dataclasses.replace(config, **_OBJECTIVES[objective])
            trained = fit(changed, images[chosen])
            row = measure(
                trained, data.eval_images, np.asarray(data.eval_labels), wanted
            )
            made = measure_pictures(trained, classifier, config.seed)
            minutes = (time.perf_counter() - start) / 60
            print(
                f"| {name} | {objective} | {row} | {made} | {minutes:.1f} |", flush=True
            )


def frequencies(name: str) -> np.ndarray:
    """Of each digit, `[10]`, in sets such as random3, tail50 and even."""
    if name == "even":
        return np.full(_CLASSES, 1 / _CLASSES)
    kind, number = name.rstrip("0123456789"), int("".join(filter(str.isdigit, name)))
    rng = np.random.default_rng(number)
    if kind == "random":
        return rng.dirichlet(np.full(_CLASSES, 2.0))
    falling = float(number) ** -(np.arange(_CLASSES) / (_CLASSES - 1))
    return rng.permutation(falling / falling.sum())


def draw(labels: np.ndarray, wanted: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Indices of about `size` images, with the frequencies that are wanted."""
    rng = np.random.default_rng(seed)
    chosen = []
    for digit, frequency in enumerate(wanted):
        places = rng.permutation(np.flatnonzero(labels == digit))
        count = round(size * frequency)
        if count > len(places):
            raise ValueError(f"digit {digit}: {len(places)} images, expected {count}")
        chosen.append(places[:count])
    return rng.permutation(np.concatenate(chosen))


def measure(
    trained: Trained, images: np.ndarray, labels: np.ndarray, wanted: np.ndarray
) -> str:
    """Columns of the table, of held-out images with the frequencies of the set."""
    (categories,) = trained.infer_categories(images).values()
    table = contingency(categories, labels, trained.spec[0].dim, _CLASSES)
    weighted = table / table.sum(0) * wanted
    accuracy, names = match(weighted)
    recall = np.zeros(_CLASSES)
    for category, digit in enumerate(names):
        if digit is not None:
            recall[digit] = weighted[category, digit] / wanted[digit]
    counts = np.round(weighted * _COUNTED).astype(int).ravel()
    pairs = np.repeat(np.indices(table.shape).reshape(2, -1), counts, axis=1)
    nmi, ari = normalized_mutual_info_score(*pairs), adjusted_rand_score(*pairs)
    least = recall.argmin()
    scores = accuracy, purity(weighted), nmi, ari, wanted.min()
    columns = " | ".join(f"{score:.3f}" for score in scores)
    return f"{columns} | {recall[least]:.2f} of those with {wanted[least]:.3f}"


def measure_pictures(
    trained: Trained, classifier: TrainedClassifier | None, seed: int
) -> str:
    """Columns of the table, of generated images with the model's own frequencies."""
    code = trained.model.category
    if classifier is None or code is None:
        return " | "
    latents = trained.sample_latents(jax.random.key(seed), _PICTURES)
    categories = split_latents(trained.spec, latents)[code.name].argmax(-1)
    classes = classifier.classify(trained.generate(latents))
    scores = conditional_accuracy.measures(categories, classes, [None] * code.size)
    return f"{scores['class_nmi']:.3f} | {scores['entropy']:.3f}"


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
