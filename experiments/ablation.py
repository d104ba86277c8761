"""What each part of the recipe adds, on 4,000 digits: one row after the other.

    python -m experiments.ablation --eval_classifier=runs/classifier
    python -m experiments.ablation --table=gan_loss --workdir=runs/gan_loss ..

The classification network measures: train one by `experiments/classifier.cfg`. A
run that is there goes on where it stopped, and one that is finished is measured again.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags, logging

from infogan_jax.run.directory import Run

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", "runs/ablation", "Folder of the runs, one per row.")
flags.DEFINE_enum("table", "recipe", ["recipe", "gan_loss"], "What differs by row.")
flags.DEFINE_string(
    "eval_classifier", "runs/classifier", "Work directory of the classifier."
)
flags.DEFINE_integer("seeds", 5, "Seeds of each row, from 0 on.")
flags.DEFINE_list("rows", None, "Rows to run, by number; default: all.")

# Each row takes back what the rows below it add to quickstart.cfg.
_RECIPE = [
    ("the paper's objective", "d_learning_rate=2e-4"),
    ("+ D's step size 1e-3", "augment=none"),
    ("+ affine augmentation", "real_mi_weight=0"),
    ("+ I(c; x) on real images", "entropy_weight=0"),
    ("+ entropy", "augment=affine"),
    ("+ elastic", "equivariance_weight=0"),
    ("+ equivariance", "consistency_fraction=0"),
    ("+ a quarter of consistency", "gan_on_copies=0"),
    ("+ half of the adversarial losses on copies", "prior_weight=0"),
    ("+ codes as quantiles", "gan_weight=1"),
    ("+ four times the adversarial losses", "architecture=mnist_half"),
    ("+ G with residual layers", "real_mi_weight=1"),
    ("+ twice I(c; x), which is quickstart.cfg", None),
]

# The pairs of losses, all else being quickstart.cfg; a penalty needs a D that sees each
# image by itself.
_PLAIN = ["architecture=dcgan_plain", "base_channels=32"]
_GAN_LOSSES = [
    ("non-saturating", []),
    ("hinge", ["gan_loss=hinge"]),
    ("least squares", ["gan_loss=least_squares"]),
    ("relativistic (RSGAN)", ["gan_loss=relativistic"]),
    ("relativistic average (RaSGAN)", ["gan_loss=relativistic_average"]),
    ("the same, squared (RaLSGAN)", ["gan_loss=relativistic_average_least_squares"]),
    (
        "Wasserstein, gradient penalty",
        [*_PLAIN, "gan_loss=wasserstein", "penalty=wgan_gp", "penalty_weight=10"],
    ),
    (
        "relativistic, R1 + R2 (R3GAN)",
        [*_PLAIN, "gan_loss=relativistic", "penalty_weight=1"],
    ),
]


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.ERROR)  # Orbax has much to say
    rows = {"recipe": _recipe(), "gan_loss": _GAN_LOSSES}[FLAGS.table]
    chosen = [int(row) for row in FLAGS.rows or range(1, len(rows) + 1)]
    table = [
        "| objective | accuracy | FID | recall | conditional accuracy |",
        "|---|---|---|---|---|",
    ]
    for number in chosen:
        name, overrides = rows[number - 1]
        folder = Path(FLAGS.workdir) / f"row_{number}"
        _train(folder, [f"--{override}" for override in overrides])
        table.append(f"| {name} | {' | '.join(_measured(folder))} |")
        print("\n".join(table), flush=True)


def _recipe() -> list[tuple[str, list[str]]]:
    """Each row with its override and those of all below it, its own last: it counts."""
    return [
        (name, [back for _, back in reversed(_RECIPE[i:]) if back])
        for i, (name, _) in enumerate(_RECIPE)
    ]


def _train(folder: Path, overrides: list[str]) -> None:
    command = [
        sys.executable,
        "-m",
        "infogan_jax.main",
        "--flagfile=experiments/quickstart.cfg",
        f"--workdir={folder}",
        f"--num_seeds={FLAGS.seeds}",
        f"--eval_classifier={FLAGS.eval_classifier}",
        "--evaluators=clustering,conditional_accuracy,fidelity",
        *overrides,
    ]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".log"), "a") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{folder} stopped early; the reason is the last line of {log.name}")


def _measured(folder: Path) -> list[str]:
    """Median and range over the seeds; FID beside that of real images."""
    run = Run.open(folder)
    assert run.model.category is not None
    category = run.model.category.name
    found = [member.load_evaluation() for member in run.members]
    measured = [evaluation for evaluation in found if evaluation is not None]

    def rows(evaluator: str) -> list[dict[str, Any]]:
        return [evaluation.rows(evaluator) for evaluation in measured]

    fidelity = rows("fidelity")
    fid, reference = (
        [f[which]["fid"] for f in fidelity] for which in ("generated", "real_reference")
    )
    recall = [f["generated"]["recall"] for f in fidelity]
    return [
        _spread([row[category]["accuracy"] for row in rows("clustering")]),
        f"{_spread(fid, '.1f')}, real images {np.median(reference):.1f}",
        f"{_spread(recall, '.2f')}",
        _spread(
            [
                row[category]["conditional_accuracy"]
                for row in rows("conditional_accuracy")
            ]
        ),
    ]


def _spread(values: list[float], digits: str = ".3f") -> str:
    low, middle, high = (f"{f(values):{digits}}" for f in (min, np.median, max))
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    app.run(main)
