"""Images on demand: `--mode=sample --fix="class=three,uniform1=-2..2"`."""

import io
import json
import logging
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from infogan_jax.core.latents import (
    Bernoulli,
    Categorical,
    Code,
    Spec,
    join_latents,
    main_category,
    sample_latents,
    split_latents,
)
from infogan_jax.data import Form, ome
from infogan_jax.errors import UserError, check_is_new, expand_path
from infogan_jax.fields import INT32_END
from infogan_jax.files import write_atomically
from infogan_jax.inference import weight_digest
from infogan_jax.pixels import channel_names, composite, to_picture, to_uint8
from infogan_jax.reporting import figures
from infogan_jax.run.directory import MemberFolder, Run

logger = logging.getLogger(__name__)

_DIGITS = "zero one two three four five six seven eight nine".split()  # noqa: SIM905
_TIFF = ".tif", ".tiff"
_MAX_IMAGES = 100_000
LATENTS_FORMAT = "infogan_jax latents 1"


class FixedCode(NamedTuple):
    """A code that `--fix` names, with its values: one, or a whole range."""

    name: str
    values: np.ndarray  # [K, dim]


def parse_fixed(
    text: str, spec: Spec, num_samples: int, class_to_category: dict[str, int]
) -> list[FixedCode]:
    """Returns the codes that `--fix` names.

    Args:
        text: `name=value` or `name=from..to`, separated by commas; `class=NAME` stands
            for the category of that class.
        spec: the codes of the run.
        num_samples: how many values a range of a continuous code has.
        class_to_category: lower-case name of a class -> its category.

    Raises:
        UserError: a name or a value that this run does not have.
    """
    codes = {code.name: code for code in spec if code.n_params}
    category = main_category(spec)
    fixed: list[FixedCode] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (part.strip() for part in item.partition("="))
        if name == "class" and category is not None:
            value = _category_of_class(item, value, category, class_to_category)
            name = category.name
        if name not in codes:
            raise UserError(
                f"--fix={item}: expected NAME=VALUE with a code of this run, one of "
                f"{sorted(codes)}" + (", or class=NAME" if category else "")
            )
        if name in [code.name for code in fixed]:
            raise UserError(f"--fix={text}: fixes {name} twice; name it once")
        numbers = _parse_numbers(item, value, codes[name], num_samples)
        encode: Any = codes[name].encode  # of a traced number too
        values = np.asarray(jax.vmap(encode)(numbers))
        fixed.append(FixedCode(name, values))
    ranges = [len(code.values) for code in fixed if len(code.values) > 1]
    if len(ranges) > 2:
        raise UserError(f"--fix={text}: expected two ranges at most, rows and columns")
    if math.prod(ranges) > _MAX_IMAGES:
        raise UserError(
            f"--num_samples={num_samples}: {math.prod(ranges):,} images by two ranges; "
            f"expected at most {_MAX_IMAGES:,}"
        )
    return fixed


def _category_of_class(
    item: str, value: str, category: Categorical, class_to_category: dict[str, int]
) -> str:
    """The number of the category that has a class, as text."""
    word = value.lower()
    if word in _DIGITS and word not in class_to_category:
        word = str(_DIGITS.index(word))
    if not class_to_category:
        raise UserError(
            f"--fix={item}: no category has a class at the newest checkpoint; run "
            f"--mode=evaluate if there are labels, or fix {category.name}"
        )
    if word not in class_to_category:
        raise UserError(
            f"--fix={item}: expected a class that has a category in this run, one of "
            f"{sorted(class_to_category)}"
        )
    return str(class_to_category[word])


def _parse_numbers(item: str, value: str, code: Code, num_samples: int) -> np.ndarray:
    """The numbers that `value` or `from..to` stands for, `[K]`."""
    low, dots, high = value.partition("..")
    try:
        ends = [float(end) for end in ((low, high) if dots else (low,))]
    except ValueError:
        raise UserError(
            f"--fix={item}: expected a number or a range such as -2..2"
        ) from None
    try:
        for end in ends:
            code.check(end)
    except ValueError as error:
        raise UserError(f"--fix={item}: {error}") from None
    if len(ends) == 2 and isinstance(code, Categorical | Bernoulli):
        first, last = sorted(int(end) for end in ends)
        return np.arange(first, last + 1)
    return np.linspace(ends[0], ends[-1], num_samples if dots else 1)


def lay_out(
    key: jax.Array, spec: Spec, fixed: list[FixedCode], num_samples: int
) -> tuple[jax.Array, int]:
    """Returns latents with the fixed codes, and how many columns their grid has.

    Without a range there are `num_samples` images that differ in all that is not fixed.
    One range is a row; of two, the first runs from top to bottom and the second along
    each row. Along a range nothing else changes.
    """
    ranges = [code for code in fixed if len(code.values) > 1]
    if not ranges:
        latents = sample_latents(key, num_samples, spec)
        columns = min(num_samples, 10)
    else:
        total = int(np.prod([len(code.values) for code in ranges]))
        columns = len(ranges[-1].values)
        latents = jnp.tile(sample_latents(key, 1, spec), (total, 1))
    values = split_latents(spec, latents)
    for code in fixed:
        along = code.values
        if len(ranges) == 2 and code is ranges[0]:
            along = np.repeat(along, columns, axis=0)
        repeats = len(latents) // len(along)
        values[code.name] = jnp.asarray(np.tile(along, (repeats, 1)))
    return join_latents(spec, values), columns


class Request(NamedTuple):
    """Which images a person wants."""

    fix: str = ""  # see `parse_fixed`
    num_samples: int = 100  # images, or steps along a range
    seed: int = 0  # of what is not fixed
    latents_file: str = ""  # a file of latents, in place of all that


def read_latents(path: Path, dim: int) -> tuple[np.ndarray, str]:
    """Returns latents that the explorer saved, `[N, dim]`, and their network's digest.

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
        if len(latents) > _MAX_IMAGES or not np.isfinite(latents).all():
            raise ValueError(f"expected finite numbers, {_MAX_IMAGES} rows at most")
    except OSError as error:
        raise UserError(f"--latents_file={path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"--latents_file={path}: {error}; expected a file that the explorer saved"
        ) from None
    return latents, str(content.get("digest"))


def sample(run: Run, request: Request, output: Path, seed: int | None = None) -> None:
    """Generates images with the newest checkpoint of a run.

    Args:
        run: the run.
        request: which images.
        output: `*.png` for one sheet; `*.npy` for an array float32 `[N, H, W, C]`, in
            [0, 1], or in the units of a prepared folder's files; anything else for a
            folder of single PNG files.
        seed: of the member, if there are several; by default the chosen one's.

    Raises:
        UserError: see above, or `output` exists already.
    """
    _check(request, output)
    folder, trained = run.load_trained(seed)
    spec = trained.spec
    classes = class_to_category(run, folder, trained.step)
    fixed = parse_fixed(request.fix, spec, request.num_samples, classes)
    key = jax.random.key(request.seed)
    latents: Any
    if request.latents_file:
        path = expand_path("latents_file", request.latents_file)
        latents, wanted = read_latents(path, trained.model.latent_dim)
        columns = min(len(latents), 10)
        if wanted != (here := weight_digest(trained.state.ema)):
            raise UserError(
                f"--latents_file={request.latents_file}: is of the network {wanted}, "
                f"the run has {here}; name the --workdir it was exported from"
            )
    else:
        latents, columns = lay_out(key, spec, fixed, request.num_samples)
    images = trained.generate(latents)
    try:
        _write(images, columns, output, run)
    except OSError as error:
        raise UserError(
            f"--output={output}: cannot be written ({error.strerror})"
        ) from None
    logger.info(f"{len(images)} images in {output}")


def _check(request: Request, output: Path) -> None:
    """Raises UserError for what can be known before a state is loaded."""
    if not 1 <= request.num_samples <= _MAX_IMAGES:
        raise UserError(
            f"--num_samples={request.num_samples}: expected 1 to {_MAX_IMAGES}"
        )
    if not 0 <= request.seed < INT32_END:
        raise UserError(f"--seed={request.seed}: expected 0 or more, below {INT32_END}")
    if request.latents_file and request.fix:
        raise UserError(
            f"--latents_file={request.latents_file}: has all values already; leave "
            "--fix out"
        )
    check_is_new("output", output)
    other_kinds = {*Image.registered_extensions(), ".npz"} - {".png", *_TIFF}
    if output.suffix.lower() in other_kinds:
        raise UserError(
            f"--output={output}: expected FILE.png, FILE.tif, FILE.npy or a folder"
        )


def class_to_category(run: Run, folder: MemberFolder, step: int) -> dict[str, int]:
    """Returns lower-case names of classes -> categories, as measured at that step.

    Measures of another step are not used: pseudo-labels may have changed categories.
    """
    category = run.model.category
    evaluation = folder.load_evaluation(step)
    if category is None or evaluation is None:
        return {}
    names = evaluation.class_of_category(category.name, run.info.class_names)
    return {name.lower(): k for k, name in enumerate(names) if name is not None}


def in_own_units(images: np.ndarray, form: Form) -> np.ndarray:
    """Returns images `[.., C]` in [0, 1] in the units of a prepared folder's files."""
    if form.ranges is None:
        return images
    low, high = np.asarray(form.ranges, np.float32).T
    return low + images * (high - low)


def write_tiff(file: Any, images: np.ndarray, run: Run) -> None:
    """Writes one image, or several, of a run as OME-TIFF in the files' own units.

    Args:
        file: path, or a file that is open.
        images: `[H, W, C]` or `[N, H, W, C]`, in [0, 1].
        run: says the units, the names of channels and the size of pixels.
    """
    form = run.info.form
    names = channel_names(images.shape[-1], run.config.composite)
    ome.write(file, in_own_units(images, form), names, form.shown_pixel_size)


def _write(images: np.ndarray, columns: int, output: Path, run: Run) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    colours = run.config.composite
    if output.suffix.lower() == ".png":
        figures.save(figures.image_grid(images, columns, colours=colours), output)
    elif output.suffix.lower() in (".npy", *_TIFF):
        content = io.BytesIO()
        if output.suffix.lower() == ".npy":
            own = in_own_units(images, run.info.form)
            np.save(content, own, allow_pickle=False)
        else:
            write_tiff(content, images, run)
        write_atomically(output, content.getbuffer())
    else:
        for i, image in enumerate(to_uint8(images)):
            shown = to_picture(composite(image, colours))
            figures.save(shown, output / f"{i:05d}.png")
