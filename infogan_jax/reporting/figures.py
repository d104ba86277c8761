"""Pictures of what a network generates: grids, traversals, an animation, a table."""

import functools
import io
import math
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from infogan_jax.core.latents import (
    Categorical,
    Code,
    Spec,
    join_latents,
    main_category,
    sample_latents,
    split_latents,
    trained_range,
)
from infogan_jax.files import write_atomically
from infogan_jax.pixels import composite, panels, to_picture, to_uint8
from infogan_jax.settings import DEFAULT_COMPOSITE

ROWS, COLUMNS = 10, 12  # of a grid without a category
_GAP, _MARGIN = 2, 16  # pixels between images, between panels
_GIF_FRAMES = 32  # of the animation; all frames stay in frames/
_GIF_SIDE = (1 << 16) - 1  # pixels, the largest that the format holds
_GIF_GREYS, _GIF_COLOURS = 16, 64  # look the same as 256, in fewer bytes
_SIDE = 56  # pixels that an image is shown at, about
_BAR = 24  # pixels below a picture, for its scale bar
_INK, _PAPER = (30, 30, 30), (255, 255, 255)


def image_grid(
    images: np.ndarray,
    columns: int,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    title: str = "",
    colours: str = DEFAULT_COMPOSITE,
    pixel_size: float | None = None,
) -> Image.Image:
    """Returns images `[N, H, W, C]` row by row, with labels at the edges if given.

    Images that are neither grey nor RGB are shown as several panels; see
    `pixels.panels`. With the size of a pixel, in micrometres, they have a scale bar.
    """
    draw = functools.partial(_grid, columns=columns, column_labels=column_labels)
    shown = panels(to_uint8(images), colours)
    titles = {name: f"{title} {name}".strip() for name in shown}
    first, *others = shown
    whole = draw(shown[first], row_labels=row_labels, title=titles[first])
    # Wide panels stand below each other: a page shows no more than its width.
    below = whole.width > whole.height
    labels = row_labels if below else ()
    drawn = [whole] + [
        draw(shown[name], row_labels=labels, title=titles[name]) for name in others
    ]
    lengths = [panel.height if below else panel.width for panel in drawn]
    total = sum(lengths) + _MARGIN * (len(drawn) - 1)
    size = (whole.width, total) if below else (total, whole.height)
    canvas, at = Image.new("RGB", size, _PAPER), 0
    for panel, length in zip(drawn, lengths, strict=True):
        canvas.paste(panel, (0, at) if below else (at, 0))
        at += length + _MARGIN
    if pixel_size:
        zoom = _zoom(images.shape[1])
        canvas = _with_scale_bar(canvas, pixel_size / zoom, images.shape[2] * zoom)
    return canvas


def _zoom(height: int) -> int:
    """How much larger images are shown."""
    return max(1, round(_SIDE / height))


def _with_scale_bar(canvas: Image.Image, pixel_size: float, most: int) -> Image.Image:
    """A picture with a bar below it, of a length that is 1, 2 or 5 times a power of 10.

    Args:
        canvas: the picture.
        pixel_size: micrometres.
        most: pixels that the bar may be long.
    """
    longest = most * pixel_size
    power = 10.0 ** math.floor(math.log10(longest))
    length = max(n * power for n in (0.5, 1, 2, 5) if n * power <= longest)
    taller = Image.new("RGB", (canvas.width, canvas.height + _BAR), _PAPER)
    taller.paste(canvas)
    draw, end = ImageDraw.Draw(taller), canvas.width
    bar = (end - round(length / pixel_size), canvas.height + 3, end - 1)
    draw.rectangle((*bar, canvas.height + 5), _INK)
    text = f"{length:g} um"  # the font has no Greek
    font = ImageFont.load_default(size=13)
    draw.text((end - 1, taller.height - 2), text, _INK, font, anchor="rs")
    return taller


def _grid(
    images: np.ndarray,
    columns: int,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str,
) -> Image.Image:
    """Images `[N, H, W, 1 or 3]`, uint8."""
    n, height, width, _ = images.shape
    zoom = _zoom(height)
    height, width = height * zoom, width * zoom
    rows = -(-n // columns)
    font = ImageFont.load_default(size=13)
    left = max((round(font.getlength(text)) for text in row_labels), default=0)
    left += 8 if left else 0
    top = 20 * (bool(title) + bool(column_labels))
    size = (left + columns * (width + _GAP) - _GAP, top + rows * (height + _GAP) - _GAP)
    canvas = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((left, 2), title, _INK, font)
    for i, image in enumerate(images):
        tile = to_picture(image).resize((width, height), Image.Resampling.BICUBIC)
        row, column = divmod(i, columns)
        canvas.paste(
            tile, (left + column * (width + _GAP), top + row * (height + _GAP))
        )
    for row, text in enumerate(row_labels):
        middle = top + row * (height + _GAP) + height // 2
        draw.text((left - 6, middle), text, _INK, font, anchor="rm")
    for column, text in enumerate(column_labels):
        middle = left + column * (width + _GAP) + width // 2
        draw.text((middle, top - 4), text, _INK, font, anchor="ms")
    return canvas


def save(image: Image.Image, path: Path) -> None:
    """Writes a PNG file, whole or not at all."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def figure_key(seed: int) -> jax.Array:
    """Returns the key of a run's pictures; `InfoGAN.init` uses 0 and 1 of the seed."""
    return jax.random.fold_in(jax.random.key(seed), 2)


@functools.partial(jax.jit, static_argnums=1)
def grid_latents(key: jax.Array, spec: Spec) -> jax.Array:
    """Returns latents of a grid: a row per category, the same styles in every row."""
    category = main_category(spec)
    rows = category.size if category else ROWS
    if category is None:
        return sample_latents(key, rows * COLUMNS, spec)
    styles = jnp.tile(sample_latents(key, COLUMNS, spec), (rows, 1))
    values = split_latents(spec, styles)
    values[category.name] = jnp.repeat(jnp.eye(rows), COLUMNS, axis=0)
    return join_latents(spec, values)


def traversal_values(code: Code, n: int) -> jax.Array:
    """Returns values over the range that a code is trained on, `[n, dim]`.

    The paper's Figure 2 goes on to twice that range, where pictures fray.
    """
    return code.traverse(n, *trained_range(code))


@functools.partial(jax.jit, static_argnums=(1, 2))
def traverse_latents(key: jax.Array, spec: Spec, name: str) -> jax.Array:
    """Returns latents that change one code along each row, over its range.

    There is a row per category of the main code, each in a style of its own; if the
    traversed code is the main one, rows are styles and columns are categories.
    """
    code = next(code for code in spec if code.name == name)
    category = main_category(spec)
    columns = code.dim if isinstance(code, Categorical) else ROWS
    rows = ROWS if category is None or category is code else category.size
    values = split_latents(
        spec, jnp.repeat(sample_latents(key, rows, spec), columns, axis=0)
    )
    if category is not None and category is not code:
        values[category.name] = jnp.repeat(jnp.eye(rows), columns, axis=0)
    values[name] = jnp.tile(traversal_values(code, columns), (rows, 1))
    return join_latents(spec, values)


def reorder_rows(images: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Returns a grid's images `[rows * columns, H, W, C]` with its rows reordered."""
    rows = images.reshape(len(order), -1, *images.shape[1:])
    return rows[list(order)].reshape(images.shape)


def save_frame(frames: Path, step: int, images: np.ndarray) -> None:
    """Writes a frame of the animation: the images of a grid, one above the other.

    Channels of images that are neither grey nor RGB lie side by side.
    """
    images = to_uint8(images)
    n, height, width, channels = images.shape
    column = images.reshape(n * height, width, channels)
    if channels not in (1, 3):
        column = np.moveaxis(column, -1, 1).reshape(n * height, channels * width, 1)
    save(to_picture(column), frames / f"{step:08d}.png")


def _load_frame(path: Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Returns the images of a frame, `[N, H, W, C]`."""
    height, width, channels = image_shape
    with Image.open(path) as frame:
        column = np.asarray(frame)
    if channels in (1, 3):
        return column.reshape(-1, *image_shape)
    return np.moveaxis(column.reshape(-1, height, channels, width), 2, -1)


def animate(
    frames: Path,
    path: Path,
    image_shape: tuple[int, int, int],
    order: Sequence[int],
    row_labels: Sequence[str],
    colours: str = DEFAULT_COMPOSITE,
) -> None:
    """Writes a GIF of the same latents after more and more steps, if there are frames.

    Args:
        frames: folder of the frames.
        path: of the GIF.
        image_shape: (height, width, channels).
        order: the rows of the grid from top to bottom.
        row_labels: what to write beside them.
        colours: of channels in a composite.
    """
    files = frames.glob("*.png")
    paths = sorted(file for file in files if file.stem.isdecimal())
    if not paths:
        return
    thinned = paths[:: -(-len(paths) // _GIF_FRAMES)]
    if thinned[-1] != paths[-1]:
        thinned.append(paths[-1])
    pictures = []
    for frame in thinned:
        images = composite(_load_frame(frame, image_shape), colours)
        title = f"step {int(frame.stem):,}"
        columns = len(images) // len(order)
        images = reorder_rows(images, order)
        picture = image_grid(images, columns, row_labels, title=title)
        width, height = (min(x, _GIF_SIDE) for x in (picture.width, picture.height))
        picture = picture.crop((0, 0, width, height))
        if images.shape[-1] == 1:
            pictures.append(picture.convert("L").quantize(_GIF_GREYS))
        else:
            pictures.append(picture.quantize(_GIF_COLOURS))
    duration = [120] * (len(pictures) - 1) + [2500]  # milliseconds; the last one stays
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=duration,
        loop=0,
        optimize=True,
    )
    write_atomically(path, buffer.getvalue())


def confusion(
    table: np.ndarray, row_labels: Sequence[str], classes: Sequence[str]
) -> Image.Image:
    """Returns a table of counts `[categories, classes]`, each row shaded by share."""
    cell, font = 44, ImageFont.load_default(size=13)
    words = max(font.getlength(text) for text in (*row_labels, *classes))
    left, top = round(words) + 14, (round(words) + 14 if words > cell else 24)
    rows, columns = table.shape
    canvas = Image.new(
        "RGB", (left + columns * cell + 4, top + rows * cell + 4), _PAPER
    )
    draw = ImageDraw.Draw(canvas)
    for column, text in enumerate(classes):
        label = Image.new("RGB", (round(words) + 4, 18), _PAPER)
        ImageDraw.Draw(label).text((2, 2), text, _INK, font)
        if words > cell:
            label = label.rotate(90, expand=True)
            x = left + column * cell + (cell - label.width) // 2
            canvas.paste(label, (x, 4))
        else:
            middle = left + column * cell + cell // 2
            draw.text((middle, top - 6), text, _INK, font, anchor="ms")
    for row, text in enumerate(row_labels):
        draw.text(
            (left - 8, top + row * cell + cell // 2), text, _INK, font, anchor="rm"
        )
        total = max(table[row].sum(), 1)
        for column in range(columns):
            share = table[row, column] / total
            r, g, b = (round(255 + share * (c - 255)) for c in (31, 88, 160))
            x, y = left + column * cell, top + row * cell
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=(r, g, b))
            ink = _PAPER if share > 0.5 else _INK
            if table[row, column]:
                place = (x + cell // 2, y + cell // 2)
                draw.text(place, str(table[row, column]), ink, font, anchor="mm")
    return canvas
