"""What each part of the recipe adds, on 4,000 digits: one row after the other.

    python -m experiments.ablation --workdir=runs/ablation --classifier=runs/classifier
    python -m experiments.ablation --table=adversarial --workdir=runs/adversarial ..

The classification network is the judge: train one by `experiments/classifier.cfg`. A
run that is there goes on where it stopped, and one that is finished is measured anew.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from absl import app, flags

from infogan_jax import workdir as runs
from infogan_jax.latents import main_category, parse_spec

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", "runs/ablation", "Folder of the runs, one per row.")
flags.DEFINE_enum("table", "recipe", ["recipe", "adversarial"], "What differs by row.")
flags.DEFINE_string("classifier", "runs/classifier", "Work directory of the judge.")
flags.DEFINE_integer("seeds", 5, "Seeds of each row, from 0 on.")
flags.DEFINE_list("rows", None, "Rows to run, by number; default: all.")

# Each row takes back what the rows below it add to quickstart.cfg.
_RECIPE = [
    ("the paper's objective", "d_learning_rate=2e-4"),
    ("+ D's step size 1e-3", "warp=none"),
    ("+ affine warps", "real_weight=0"),
    ("+ I(c; x) on real images", "balance_weight=0"),
    ("+ balance", "warp=affine"),
    ("+ bend", "equivariance_weight=0"),
    ("+ equivariance", "agreement_share=0"),
    ("+ a quarter of agreement, which is quickstart.cfg", None),
]

# The pairs of losses, all else being quickstart.cfg; a penalty needs a D that sees each
# image by itself.
_PLAIN = ["architecture=dcgan_plain", "width=32"]
_ADVERSARIAL = [
    ("non-saturating", []),
    ("hinge", ["adversarial=hinge"]),
    ("least squares", ["adversarial=least_squares"]),
    ("relativistic (RSGAN)", ["adversarial=relativistic"]),
    ("relativistic average (RaSGAN)", ["adversarial=relativistic_average"]),
    ("the same, squared (RaLSGAN)", ["adversarial=relativistic_average_least_squares"]),
    (
        "Wasserstein, gradient penalty",
        [*_PLAIN, "adversarial=wasserstein", "penalty=wgan_gp", "penalty_weight=10"],
    ),
    (
        "relativistic, R1 + R2 (R3GAN)",
        [*_PLAIN, "adversarial=relativistic", "penalty_weight=1"],
    ),
]


def main(argv: list[str]) -> None:
    del argv
    rows = {"recipe": _recipe(), "adversarial": _ADVERSARIAL}[FLAGS.table]
    chosen = [int(row) for row in FLAGS.rows or range(1, len(rows) + 1)]
    table = [
        "| objective | accuracy | FID | recall | asked is got |",
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
        f"--seeds={FLAGS.seeds}",
        f"--classifier={FLAGS.classifier}",
        "--evaluators=clustering,generation,fidelity",
        *overrides,
    ]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".log"), "a") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{folder} stopped early; the reason is the last line of {log.name}")


def _measured(folder: Path) -> list[str]:
    """Median and range over the seeds; FID with its floor."""
    config = runs.load_config(folder)[0]
    category = main_category(parse_spec(config.codes)).name
    found = [runs.load_evaluation(f) for f in runs.replica_folders(folder, config)]
    fidelity = [results["fidelity"] for results in found]
    fid, floor = (
        [f[which]["fid"] for f in fidelity] for which in ("generated", "floor")
    )
    recall = [f["generated"]["recall"] for f in fidelity]
    return [
        _spread([results["clustering"][category]["accuracy"] for results in found]),
        f"{_spread(fid, '.1f')}, floor {np.median(floor):.1f}",
        f"{_spread(recall, '.2f')}",
        _spread([r["generation"][category]["asked_is_got"] for r in found]),
    ]


def _spread(values: list[float], digits: str = ".3f") -> str:
    low, middle, high = (f"{f(values):{digits}}" for f in (min, np.median, max))
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    app.run(main)
