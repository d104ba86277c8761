"""Pictures on demand: `--mode=generate --set="class=three,uniform1=-2..2"`."""

import io
import json
import math
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from infogan_jax import figures
from infogan_jax import workdir as runs
from infogan_jax.config import BEYOND, UserError, expand
from infogan_jax.evaluation.inference import apply, digest
from infogan_jax.latents import (
    Bernoulli,
    Categorical,
    Spec,
    join_latents,
    latent_dim,
    main_category,
    parse_spec,
    sample_latents,
    split_latents,
)
from infogan_jax.steps import generate
from infogan_jax.writers import write_atomically

_DIGITS = "zero one two three four five six seven eight nine".split()  # noqa: SIM905
_MAX_PICTURES = 100_000
LATENTS_FORMAT = "infogan_jax latents 1"


class Setting(NamedTuple):
    """One code's part of `--set`: the values it takes, one or a whole range."""

    name: str
    values: np.ndarray  # [K, dim]


def parse_settings(
    text: str, spec: Spec, count: int, class_to_category: dict[str, int]
) -> list[Setting]:
    """What `--set` asks of each code.

    Args:
        text: `name=value` or `name=from..to`, separated by commas; `class=NAME` stands
            for the category of that class.
        spec: the codes of the run.
        count: how many values a range of a continuous code has.
        class_to_category: lower-case name of a class -> its category.

    Raises:
        UserError: a name or a value that this run does not have.
    """
    codes = {code.name: code for code in spec if code.n_params}
    category = main_category(spec)
    settings: list[Setting] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (part.strip() for part in item.partition("="))
        if name == "class" and category is not None:
            word = value.lower()
            if word in _DIGITS and word not in class_to_category:
                word = str(_DIGITS.index(word))
            if not class_to_category:
                raise UserError(
                    f"--set={item}: no category has a class at the newest checkpoint; "
                    f"run --mode=evaluate if there are labels, or set {category.name}"
                )
            if word not in class_to_category:
                raise UserError(
                    f"--set={item}: expected a class that has a category in this run, "
                    f"one of {sorted(class_to_category)}"
                )
            name, value = category.name, str(class_to_category[word])
        if name not in codes:
            raise UserError(
                f"--set={item}: expected NAME=VALUE with a code of this run, one of "
                f"{sorted(codes)}" + (", or class=NAME" if category else "")
            )
        if name in [setting.name for setting in settings]:
            raise UserError(f"--set={text}: sets {name} twice; name it once")
        code = codes[name]
        low, dots, high = value.partition("..")
        try:
            ends = [float(end) for end in ((low, high) if dots else (low,))]
        except ValueError:
            raise UserError(
                f"--set={item}: expected a number or a range such as -2..2"
            ) from None
        try:
            for end in ends:
                code.check(end)
        except ValueError as error:
            raise UserError(f"--set={item}: {error}") from None
        if len(ends) == 2 and isinstance(code, Categorical | Bernoulli):
            first, last = sorted(int(end) for end in ends)
            numbers = np.arange(first, last + 1)
        else:
            numbers = np.linspace(ends[0], ends[-1], count if dots else 1)
        settings.append(Setting(name, np.asarray(jax.vmap(code.encode)(numbers))))
    ranges = [len(setting.values) for setting in settings if len(setting.values) > 1]
    if len(ranges) > 2:
        raise UserError(f"--set={text}: expected two ranges at most, rows and columns")
    if math.prod(ranges) > _MAX_PICTURES:
        raise UserError(
            f"--count={count}: {math.prod(ranges):,} pictures by two ranges; expected "
            f"at most {_MAX_PICTURES:,}"
        )
    return settings


def lay_out(
    key: jax.Array, spec: Spec, settings: list[Setting], count: int
) -> tuple[jax.Array, int]:
    """Latents for the settings, and how many columns their grid has.

    Without a range: `count` pictures that differ in all that is not set. With one: a
    row along it. With two: the first from top to bottom, the second along each row.
    Along a range nothing else changes.
    """
    ranges = [setting for setting in settings if len(setting.values) > 1]
    if not ranges:
        latents, columns = sample_latents(key, count, spec), min(count, 10)
    else:
        total = int(np.prod([len(setting.values) for setting in ranges]))
        columns = len(ranges[-1].values)
        latents = jnp.tile(sample_latents(key, 1, spec), (total, 1))
    values = split_latents(spec, latents)
    for setting in settings:
        along = setting.values
        if len(ranges) == 2 and setting is ranges[0]:
            along = np.repeat(along, columns, axis=0)
        repeats = len(latents) // len(along)
        values[setting.name] = jnp.asarray(np.tile(along, (repeats, 1)))
    return join_latents(spec, values), columns


class Asked(NamedTuple):
    """Which pictures a person wants."""

    settings: str = ""  # see `parse_settings`
    count: int = 100  # pictures, or steps along a range
    seed: int = 0  # of what is not set
    latents: str = ""  # a file of latents, in place of all that


def read_latents(path: Path, dim: int) -> tuple[np.ndarray, str]:
    """Latents that the explorer saved, `[N, dim]`, and the digest of their network.

    Args:
        path: of the file.
        dim: width of the generator's input.

    Raises:
        UserError: it is no such file.
    """
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict) or content.get("format") != LATENTS_FORMAT:
            raise ValueError(f"expected format {LATENTS_FORMAT!r}")
        latents = np.array(content["latents"], np.float32)
        if latents.ndim != 2 or latents.shape[1] != dim or not len(latents):
            raise ValueError(f"expected rows of {dim} numbers, has {latents.shape}")
        if len(latents) > _MAX_PICTURES or not np.isfinite(latents).all():
            raise ValueError(f"expected finite numbers, {_MAX_PICTURES} rows at most")
    except OSError as error:
        raise UserError(f"--latents={path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"--latents={path}: {error}; expected a file that the explorer saved"
        ) from None
    return latents, str(content.get("digest"))


def sample(workdir: Path, asked: Asked, out: Path, replica: int | None = None) -> None:
    """Generates with the newest checkpoint of a run.

    Args:
        workdir: of the run.
        asked: which pictures.
        out: `*.png` for one sheet; `*.npy` for an array float32 `[N, H, W, C]`, in
            [0, 1], or in the units of a prepared folder's files; anything else for a
            folder of single PNG files.
        replica: its seed, where the run has several; by default the chosen one's.

    Raises:
        UserError: see above, or `out` exists already.
    """
    config, _, classes = runs.load_config(workdir)
    spec = parse_spec(config.codes)
    if not 1 <= asked.count <= _MAX_PICTURES:
        raise UserError(f"--count={asked.count}: expected 1 to {_MAX_PICTURES}")
    if not 0 <= asked.seed < BEYOND:
        raise UserError(f"--seed={asked.seed}: expected 0 or more, below {BEYOND}")
    if asked.latents and asked.settings:
        raise UserError(
            f"--latents={asked.latents}: has all values already; leave --set out"
        )
    if out.exists() or out.is_symlink():
        raise UserError(f"--out={out}: exists already; choose another name")
    kinds = {*Image.registered_extensions(), ".npz"} - {".png"}
    if out.suffix.lower() in kinds:
        raise UserError(f"--out={out}: expected FILE.png, FILE.npy or a folder")
    place = runs.find_replica(workdir, config, replica)
    folder = runs.replica_folders(workdir, config)[place]
    state = runs.load_states(workdir)[place]
    found = _class_to_category(config, folder, classes, int(state.step))
    settings = parse_settings(asked.settings, spec, asked.count, found)
    key = jax.random.key(asked.seed)
    latents, columns = lay_out(key, spec, settings, asked.count)
    if asked.latents:
        path = expand("latents", asked.latents)
        latents, wanted = read_latents(path, latent_dim(spec))
        columns = min(len(latents), 10)
    if asked.latents and wanted != (here := digest(state.ema)):
        raise UserError(
            f"--latents={asked.latents}: is of the network {wanted}, the run has "
            f"{here}; name the --workdir it was exported from"
        )
    images = apply(generate, state, latents, config)
    try:
        _write(images, columns, out, config.composite, runs.load_ranges(workdir))
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written ({error.strerror})") from None
    print(f"{len(images)} pictures in {out}")


def _class_to_category(config, folder: Path, classes: list[str], step: int):
    """Lower-case name of a class -> its category, as measured at that step."""
    category = main_category(parse_spec(config.codes))
    if category is None:
        return {}
    with runs.reading(folder):
        # Of another step: categories may have been regrouped since
        results = runs.load_evaluation(folder, step)
        found = runs.classes_of(results, category.name, classes)
        named = [(code, name) for code, name in enumerate(found) if name is not None]
        return {name.lower(): code for code, name in named}


def _write(images, columns: int, out: Path, colours: str, ranges) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".png":
        figures.save(figures.sheet(images, columns, colours=colours), out)
    elif out.suffix == ".npy":
        if ranges is not None:  # back to the user's units
            low, high = np.asarray(ranges, np.float32).T
            images = low + images * (high - low)
        content = io.BytesIO()
        np.save(content, images, allow_pickle=False)
        write_atomically(out, content.getbuffer())
    else:
        for i, image in enumerate(figures.to_uint8(images)):
            shown = figures.to_picture(figures.composite(image, colours))
            figures.save(shown, out / f"{i:05d}.png")
