"""What Q reads in somebody's images: `--mode=recognize --images=FOLDER`."""

import csv
import dataclasses
import io
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from infogan_jax import workdir as runs
from infogan_jax.config import UserError, expand
from infogan_jax.data import read_like
from infogan_jax.evaluation.inference import read_codes, shares_of
from infogan_jax.latents import main_category, parse_spec
from infogan_jax.writers import write_atomically

_PART = 1000  # images in memory


def recognize_folder(
    workdir: Path, images: str, out: Path, replica: int | None = None
) -> None:
    """Writes a table of images and codes: a row per image, in the order of names.

    Its columns are `image`, the file's name below the folder; the main category, by the
    code's name, and its `class`, where the checkpoint's evaluation found one; and for
    each code what `read_codes` gives: the probability of each category or of a
    Bernoulli code's 1, the mean of another code.

    Args:
        workdir: of the run; its newest checkpoint is used.
        images: a folder; empty: the one that the run was trained on.
        out: a file in CSV that is not there yet.
        replica: its seed, where the run has several; by default the chosen one's.

    Raises:
        UserError: there is no such folder, or none of its images can be used; or `out`
            exists already, or is no FILE.csv.
    """
    if out.suffix.lower() != ".csv":
        raise UserError(f"--out={out}: expected FILE.csv")
    config, image_shape, classes = runs.load_config(workdir)
    kind, _, trained_on = config.dataset.partition(":")
    if not images and kind != "folder":
        raise UserError(
            "--images: expected a folder; the run is of "
            f"--dataset={config.dataset}, whose images have no files of their own"
        )
    if "{channel}" in config.pattern and not config.channels:
        # Those that the run's own folder had, whichever another one has
        channels = runs.load_channels(workdir)
        if images and not channels:
            raise UserError(
                f"--images={images}: nothing tells which channels the run's own folder "
                "had; train it with --channels=NAMES to have it read others"
            )
        config = dataclasses.replace(config, channels=",".join(channels))
    root = expand("images", images or trained_on)
    if not root.is_dir():
        raise UserError(f"--images={root}: is no folder; expected one with images")
    if out.exists() or out.is_symlink():
        raise UserError(f"--out={out}: exists already; choose another name")
    place = runs.find_replica(workdir, config, replica)
    category = main_category(parse_spec(config.codes))
    folder = runs.replica_folders(workdir, config)[place]
    state = runs.load_states(workdir)[place]
    class_of = []
    with runs.reading(folder):
        if category:
            results = runs.load_evaluation(folder, int(state.step))
            class_of = runs.classes_of(results, category.name, classes)

    def columns(names, images) -> dict[str, Sequence]:
        codes = read_codes(state, np.stack(images), config)
        found: dict[str, Sequence] = {"image": names}
        if category:
            best = shares_of(category, codes).argmax(1)
            found[category.name] = best
            if class_of:
                found["class"] = [class_of[k] or "" for k in best]
        return found | {name: [f"{x:.6g}" for x in codes[name]] for name in codes}

    header, rows, left_out = [], [], []
    read = read_like(root, config, image_shape, runs.load_ranges(workdir))
    while part := list(itertools.islice(read, _PART)):
        left_out += [f"{name}: {why}" for name, why in part if isinstance(why, str)]
        if usable := [pair for pair in part if not isinstance(pair[1], str)]:
            found = columns(*zip(*usable, strict=True))
            header = list(found)
            rows += zip(*found.values(), strict=True)
    for line in left_out:
        print(f"left out: {line}")
    if not rows:
        raise UserError(f"--images={root}: none of its images can be used")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    try:
        write_atomically(out, text.getvalue())
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written ({error.strerror})") from None
    if category:
        used = Counter(row[1] for row in rows)
        names = class_of or [None] * category.size
        counts = [
            f"{k}{f' ({name})' if name else ''} {used[k]:,}"
            for k, name in enumerate(names)
        ]
        print(f"images of each {category.name}: {', '.join(counts)}")
    print(f"{len(rows):,} images in {out}")
