import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.scipy.ndimage import map_coordinates

from infogan_jax import Config, build_model, make_train_step
from infogan_jax.build import build_networks
from infogan_jax.compiling import compiler_options
from infogan_jax.core.augment import (
    WARPS,
    Warp,
    WarpParams,
    augment_batch,
    parse_warp,
)
from infogan_jax.core.models import ARCHITECTURES, resnet
from infogan_jax.core.models.layers import (
    Convolve,
    Dense,
    Downsample,
    Upsample,
    convolve,
    downsample,
    smooth,
    upsample,
)
from infogan_jax.distributed.roofline import flops
from infogan_jax.evaluation.properties import properties

DIMS = ("NHWC", "HWIO", "NHWC")


def lax_downsample(x, kernel):
    pad = ((1, 1), (1, 1))
    return lax.conv_general_dilated(x, kernel, (2, 2), pad, dimension_numbers=DIMS)


def lax_convolve(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=DIMS)


def lax_upsample(y, kernel):
    mirrored = kernel[::-1, ::-1].swapaxes(2, 3)
    return lax.conv_transpose(y, mirrored, (2, 2), "SAME", dimension_numbers=DIMS)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 8), (3, 8), (3, 2)])
@pytest.mark.parametrize(
    ("ours", "theirs", "size", "side"),
    [
        (convolve, lax_convolve, (8, 12), 3),
        (downsample, lax_downsample, (8, 12), 4),
        (upsample, lax_upsample, (4, 6), 4),
    ],
)
def test_convolutions_equal_those_of_lax(ours, theirs, size, side, inputs, outputs):
    """Also for few outputs, for which `convolve` has another form."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, *size, outputs if ours is upsample else inputs))
    kernel = jax.random.normal(keys[1], (side, side, inputs, outputs))
    out = theirs(x, kernel)
    np.testing.assert_allclose(ours(x, kernel), out, rtol=1e-5, atol=1e-4)
    weights = jax.random.normal(keys[2], out.shape)

    def gradients(f):
        def loss(x, kernel):
            return jnp.sum(weights * f(x, kernel) ** 2)

        return jax.grad(loss, (0, 1))(x, kernel)

    for mine, reference in zip(gradients(ours), gradients(theirs), strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-4, atol=1e-3)


def assert_rounded(found, expected):
    """In bfloat16, whose numbers have 8 bits."""
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        assert one.dtype == jnp.bfloat16
        error = jnp.linalg.norm(one.astype(jnp.float32) - other)
        assert error < 2e-2 * jnp.linalg.norm(other)


def penalty(function, x, kernel):
    slopes = jax.grad(lambda x: jnp.sum(function(x, kernel) ** 2))(x)
    return jnp.sum(slopes**2)


@pytest.mark.parametrize("inputs", [1, 3])
@pytest.mark.parametrize(
    ("ours", "size", "side"),
    [(convolve, (8, 12), 3), (downsample, (8, 12), 4), (upsample, (4, 6), 4)],
)
def test_convolutions_in_bfloat16(ours, size, side, inputs):
    """CPUs compute them in another form, and accelerators have the first one."""
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (2, *size, 8 if ours is upsample else inputs))
    kernel = jax.random.normal(keys[1], (side, side, inputs, 8))
    short = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    same = [z.astype(jnp.float32) for z in short]
    for function in (ours, jax.grad(functools.partial(penalty, ours), (0, 1))):
        assert_rounded(function(*short), function(*same))
    program = jax.export.export(jax.jit(ours), platforms=["cuda"])(*short)
    convolutions = program.mlir_module().count("stablehlo.convolution")
    assert convolutions == (ours is not upsample and inputs > 1)


def test_convolutions_on_cpus_are_xlas_own():
    """Faster than YNNPACK's; the option's name is one that XLA may change."""
    x, kernel = jnp.ones((2, 8, 8, 32)), jnp.ones((4, 4, 32, 64))
    jitted = jax.jit(downsample, compiler_options=compiler_options("cpu"))
    program = jitted.lower(x, kernel).compile().as_text()
    main = program[program.index("ENTRY") :]
    assert " convolution(" in main and "ynn" not in main
    assert compiler_options("gpu") == {}


def test_options_in_the_environment_are_heard(monkeypatch):
    name = "xla_backend_optimization_level"
    assert compiler_options("cpu")[name] == "1"
    monkeypatch.setenv("XLA_FLAGS", f"--{name}=2")
    assert name not in compiler_options.__wrapped__("cpu")


def test_dense_layers_in_bfloat16():
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (6, 4)).astype(jnp.bfloat16)
    kernel = jax.random.normal(keys[1], (4, 5)).astype(jnp.bfloat16)

    def ours(x, kernel):
        layer = Dense(5, False, jnp.bfloat16)
        return layer.apply({"params": {"kernel": kernel}}, x)

    same = [z.astype(jnp.float32) for z in (x, kernel)]
    pairs = (
        (ours, jnp.matmul),
        [jax.grad(functools.partial(penalty, f), (0, 1)) for f in (ours, jnp.matmul)],
    )
    for mine, reference in pairs:
        assert_rounded(mine(x, kernel), reference(*same))


@pytest.mark.parametrize("layer", [Convolve, Dense, Downsample, Upsample])
def test_gradients_of_biases_are_summed_in_float32(layer):
    layer = layer(1, dtype=jnp.bfloat16)
    x = jnp.zeros((128, 8, 8, 2), jnp.bfloat16)
    variables = layer.init(jax.random.key(0), x)

    def total(variables):
        return layer.apply(variables, x).sum(dtype=jnp.float32)

    gradient = jax.jit(jax.grad(total))(variables)["params"]["bias"]
    assert gradient == layer.apply(variables, x).size  # in bfloat16 1024 at most


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
@pytest.mark.parametrize(
    ("ours", "inputs", "side"),
    [(convolve, 3, 3), (downsample, 3, 4), (upsample, 8, 4)],
)
def test_convolutions_of_members(ours, inputs, side, axes):
    """Under `vmap` they have another form, and the same values and derivatives."""
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (2, 2, 4, 6, inputs))
    kernel = jax.random.normal(keys[1], (2, side, side, 3, 8)) / 10

    first = [
        z if axis == 0 else z[0] for z, axis in zip((x, kernel), axes, strict=True)
    ]
    for function in (ours, jax.grad(functools.partial(penalty, ours), (0, 1))):
        each = [
            function(x[i * (axes[0] == 0)], kernel[i * (axes[1] == 0)]) for i in (0, 1)
        ]
        alone = jax.tree.map(lambda *parts: jnp.stack(parts), *each)
        together = jax.vmap(function, axes)(*first)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-3),
            together,
            alone,
        )


def test_second_derivatives_exist():
    """Gradient penalties differentiate twice."""
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 1))

    sides = [(convolve, lax_convolve, 3), (downsample, lax_downsample, 4)]
    for (ours, theirs, side), outputs in itertools.product(sides, (2, 8)):
        kernel = jax.random.normal(jax.random.key(1), (side, side, 1, outputs))
        np.testing.assert_allclose(
            jax.grad(functools.partial(penalty, ours, x))(kernel),
            jax.grad(functools.partial(penalty, theirs, x))(kernel),
            rtol=1e-4,
            atol=1e-2,
        )


def test_flops_of_a_product():
    a, b = jax.ShapeDtypeStruct((3, 5), "f4"), jax.ShapeDtypeStruct((5, 7), "f4")
    assert flops(jnp.matmul, a, b) == 2 * 3 * 5 * 7


def test_the_papers_table_of_layers(config):
    networks = build_networks(_paper(config), (28, 28, 1), 14)
    latents, images = jnp.zeros((2, 74)), jnp.zeros((2, 28, 28, 1))
    init = functools.partial(networks.generator.init, jax.random.key(0))
    g = jax.eval_shape(functools.partial(init, train=False), latents)["params"]
    assert g["Dense_0"]["kernel"].shape == (74, 1024)
    assert g["Dense_1"]["kernel"].shape == (1024, 7 * 7 * 128)
    assert g["Upsample_0"]["kernel"].shape == (4, 4, 64, 128)
    assert g["Upsample_1"]["kernel"].shape == (4, 4, 1, 64)
    init = functools.partial(networks.discriminator.init, jax.random.key(0))
    d = jax.eval_shape(functools.partial(init, train=False), images)["params"]
    assert d["Downsample_0"]["kernel"].shape == (4, 4, 1, 64)
    assert d["Downsample_1"]["kernel"].shape == (4, 4, 64, 128)
    assert d["Dense_0"]["kernel"].shape == (7 * 7 * 128, 1024)
    assert d["Dense_1"]["kernel"].shape == (1024, 1)


def _paper(config):
    return dataclasses.replace(config, architecture="mnist")


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_shapes(config, architecture, shape):
    config = dataclasses.replace(config, architecture=architecture)
    networks = build_networks(config, shape, 5)

    def all_three(key):
        latents = jnp.zeros((2, 7))
        images, _ = networks.generator.init_with_output(key, latents, train=True)
        (logits, features), _ = networks.discriminator.init_with_output(
            key, images, train=True
        )
        params, _ = networks.recognizer.init_with_output(key, features, train=True)
        return images, logits, params

    images, logits, params = jax.eval_shape(all_three, jax.random.key(0))
    assert (images.shape, logits.shape, params.shape) == ((2, *shape), (2,), (2, 5))


def still(n=1):
    """Parameters that change nothing."""
    matrix = jnp.tile(jnp.eye(2), (n, 1, 1))
    return WarpParams(matrix, jnp.zeros((n, 2)), None, jnp.ones((n, 1)), None)


def resample(images, params):
    return Warp().apply(images, params)


def bent(by):
    """Parameters of an elastic displacement, `[n, 4, 4, 2]`."""
    return still(len(by))._replace(elastic=by)


def test_identity_warp_and_whole_shift():
    images = jax.random.uniform(jax.random.key(0), (2, 6, 6, 3))
    np.testing.assert_allclose(resample(images, still(2)), images, 1e-5)
    down = jnp.tile(jnp.array([1 / 6, 0.0]), (2, 1))
    moved = resample(images, still(2)._replace(shift=down))
    np.testing.assert_allclose(moved[:, :-1], images[:, 1:], rtol=1e-5)
    np.testing.assert_array_equal(moved[:, -1], 0)
    # The same shift as an elastic displacement that is equal everywhere
    field = jnp.zeros((2, 4, 4, 2)) + down[0]
    np.testing.assert_allclose(resample(images, bent(field)), moved, atol=1e-5)


def test_darkening_is_a_factor_of_its_own():
    images = jnp.ones((64, 4, 4, 1))
    limits = Warp(brightness=0.9)
    found = augment_batch(limits, jax.random.key(0), images, jnp.arange(64))
    gain = found[:, 0, 0, 0]
    np.testing.assert_allclose(found, images * gain[:, None, None, None], rtol=1e-5)
    assert np.exp(-0.9) <= gain.min() < 0.45 and 0.95 < gain.max() <= 1


def test_channels_gain_by_themselves_and_mirror_together():
    images = jax.random.uniform(jax.random.key(0), (64, 4, 4, 2))
    limits = Warp(flip=0.5, gain=0.3)
    found = augment_batch(limits, jax.random.key(0), images, jnp.arange(64))
    ratio = found.sum((1, 2)) / images.sum((1, 2))  # [64, 2], whichever way it faces
    assert np.exp(-0.3) <= ratio.min() < 0.8 and 1.25 < ratio.max() <= np.exp(0.3)
    assert abs(np.corrcoef(ratio.T)[0, 1]) < 0.4
    plain = found / ratio[:, None, None, :]
    same = jnp.isclose(plain, images, atol=1e-5).all((1, 2, 3))
    mirrored = jnp.isclose(plain, images[:, :, ::-1], atol=1e-5).all((1, 2, 3))
    assert (same != mirrored).all()
    assert 16 < mirrored.sum() < 48


def test_every_other_copy_keeps_one_channel():
    images = jnp.ones((64, 4, 4, 3))
    limits = Warp(isolate_channel=2)
    found = augment_batch(limits, jax.random.key(0), images, jnp.arange(64))
    np.testing.assert_allclose(found[..., 1], 1, rtol=1e-6)
    others = found[:, :1, :1, :1]
    np.testing.assert_allclose(found[..., [0, 2]], others * jnp.ones((64, 4, 4, 2)))
    assert set(np.unique(others)) == {0, 1}
    assert 16 < (others == 0).sum() < 48


def test_blur_by_hand():
    image = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(16.0)
    blurred = resample(image, still()._replace(blur=jnp.ones(1)))[0, 1:4, 1:4, 0]
    np.testing.assert_allclose(blurred, [[1, 2, 1], [2, 4, 2], [1, 2, 1]], rtol=1e-5)
    half = resample(image, still()._replace(blur=jnp.full(1, 0.5)))[0, 2, 2, 0]
    assert half == pytest.approx(10)


def test_parse_warp():
    assert parse_warp("none") is None
    assert parse_warp("digits") == WARPS["digits"]
    changed = parse_warp("cells:rotation=90:gain=0")
    assert changed == dataclasses.replace(WARPS["cells"], rotation=90, gain=0)
    wrong = "gain=-1", "gain=x", "flip=2", "isolate_channel=1.5", "spin=3"
    for text in ("", "swirl", "none:", *(f"cells:{part}" for part in wrong)):
        with pytest.raises(ValueError, match="augment: "):
            parse_warp(text)


def test_a_warp_without_an_elastic_displacement_computes_none():
    def drawn(name):
        key, index = jax.random.key(0), jnp.arange(2)
        return parse_warp(name).draw(key, index, 3).elastic

    assert drawn("cells") is None and drawn("digits").shape == (2, 4, 4, 2)


def test_an_elastic_displacement_moves_its_corner():
    images = jax.random.uniform(jax.random.key(0), (1, 28, 28, 1))
    field = jnp.zeros((1, 4, 4, 2)).at[0, 0, 0].set(0.07)
    moved = resample(images, bent(field))
    np.testing.assert_allclose(moved[:, 18:], images[:, 18:], atol=1e-5)
    assert not np.allclose(moved[:, :7, :7], images[:, :7, :7], atol=0.1)


def test_quarter_turn():
    image = jnp.arange(9.0).reshape(1, 3, 3, 1)
    turn = still()._replace(matrix=jnp.array([[[0.0, 1.0], [-1.0, 0.0]]]))
    turned = resample(image, turn)[0, ..., 0]
    np.testing.assert_allclose(turned, np.rot90(image[0, ..., 0]), atol=1e-5)


def test_warps_are_a_function_of_the_index():
    images = jax.random.uniform(jax.random.key(0), (4, 8, 8, 1))
    key, limits = jax.random.key(1), WARPS["digits"]
    whole = augment_batch(limits, key, images, jnp.arange(4))
    part = augment_batch(limits, key, images[2:], jnp.arange(2, 4))
    np.testing.assert_allclose(whole[2:], part, rtol=1e-6)
    assert not np.allclose(whole, images)


def test_resampling_agrees_with_map_coordinates():
    image = jax.random.uniform(jax.random.key(0), (1, 7, 7, 1))
    maps = still()._replace(
        matrix=jnp.array([[[0.9, 0.2], [-0.1, 1.1]]]),
        shift=jnp.array([[0.3, -0.6]]) / 7,
    )
    y, x = np.mgrid[:7, :7] - 3.0
    place = [0.9 * y + 0.2 * x + 0.3 + 3, -0.1 * y + 1.1 * x - 0.6 + 3]
    expected = map_coordinates(image[0, ..., 0], place, order=1, mode="constant")
    np.testing.assert_allclose(resample(image, maps)[0, ..., 0], expected, 1e-4)


def test_factors_are_those_that_can_be_measured():
    """A bar leans and widens by what `factors` says, up to the sign."""
    bar = jnp.zeros((1, 28, 28, 1)).at[:, 6:22, 8:20].set(1.0)
    maps = still()._replace(matrix=jnp.array([[[1.0, 0.0], [0.25, 0.8]]]))
    slant, width = parse_warp("digits").factors(maps)[0][0].tolist()
    before = properties(np.asarray(bar))
    lean_only = still()._replace(matrix=jnp.array([[[1.0, 0.0], [slant, 1.0]]]))
    wide_only = still()._replace(matrix=jnp.diag(jnp.exp(jnp.array([0, width])))[None])
    leant = properties(np.asarray(resample(bar, lean_only)))
    wide = properties(np.asarray(resample(bar, wide_only)))
    turned = properties(np.asarray(resample(bar, maps)))
    assert leant["slant"][0] == pytest.approx(abs(slant), abs=0.02)
    assert turned["slant"][0] == pytest.approx(abs(slant), abs=0.02)
    ratio = float(wide["width"][0] / before["width"][0])
    assert np.log(ratio) == pytest.approx(-width, abs=0.03)


def test_factors_of_images_of_any_orientation():
    """A disc grows and changes its tint by what `factors` says, up to the sign."""
    y, x = np.mgrid[:32, :32] - 15.5
    disc = jnp.asarray(np.hypot(y, x) < 10, jnp.float32)[None, ..., None]
    disc *= jnp.array([0.8, 0.4, 0.2])
    turned = jnp.array([[0.0, -0.8], [0.7, 0.0]])[None]  # by a quarter, and larger
    gain, blur = jnp.array([[0.5, 1.0, 1.5]]), jnp.array([0.3])
    maps = still()._replace(matrix=turned, gain=gain, blur=blur)
    cells = parse_warp("cells")
    assert cells.factor_names == ("size", "colour", "focus")
    (size, colour, focus), *_ = cells.factors(maps)[0].tolist()
    before, after = disc, resample(disc, maps._replace(blur=None))
    share = after[..., 1].sum() / before[..., 1].sum()  # whose gain is 1
    assert np.log(share) / 2 == pytest.approx(-size, abs=0.03)
    tint = [x[0, 16, 16, 0] / x[0, 16, 16, 2] for x in (before, after)]
    assert np.log(tint[1] / tint[0]) == pytest.approx(colour, abs=1e-5)
    assert focus == pytest.approx(0.3)
    # Of two channels the second is the other one; one alone has brightness
    for gains, expected in (([2.0, 8.0], -np.log(4)), ([2.0], np.log(2))):
        few = still()._replace(gain=jnp.array([gains]))
        only_colour = parse_warp("cells:scale=0:blur=0")
        assert only_colour.factors(few)[0][0, 0] == pytest.approx(expected)
    assert parse_warp("cells:scale=0:blur=0").factor_names == ("colour",)
    assert parse_warp("cells:scale=0:blur=0:gain=0").factor_names == ()
    assert parse_warp("cells:rotation=0:flip=0").factor_names == ("width",)
    assert parse_warp("digits:rotation=0:shear=0:scale=0").factor_names == ()


def test_objects_turn_about_themselves_and_move_by_what_factors_says():
    """An L off the middle: its centre moves, up to the sign, by the place's change."""
    shape = jnp.zeros((1, 32, 32, 1)).at[:, 9:17, 16:20].set(1.0)
    shape = shape.at[:, 15:17, 16:24].set(1.0)
    sprites = parse_warp("sprites")
    assert sprites.factor_names == ("column", "row", "size")

    def centre(image):
        y, x = np.mgrid[:32, :32]
        light = np.asarray(image[0, ..., 0])
        return np.array([(light * y).sum(), (light * x).sum()]) / light.sum()

    def apply(maps):
        return sprites.apply(shape, maps)

    turn = jnp.array([[[0.6, -0.8], [0.8, 0.6]]]) / 1.2  # larger, too
    in_place = apply(still()._replace(matrix=turn))
    np.testing.assert_allclose(centre(in_place), centre(shape), atol=0.05)
    maps = still()._replace(matrix=turn, shift=jnp.array([[-0.2, 0.1]]))
    column, row, size = sprites.factors(maps)[0][0].tolist()
    moved = apply(maps)
    np.testing.assert_allclose(
        centre(moved) - centre(shape), [-32 * row, -32 * column], atol=0.05
    )
    assert np.log(moved.sum() / shape.sum()) / 2 == pytest.approx(-size, abs=0.03)
    keys = augment_batch(sprites, jax.random.key(0), shape, jnp.arange(1))
    assert keys.shape == shape.shape
    black = jnp.zeros((1, 32, 32, 1))
    np.testing.assert_array_equal(sprites.apply(black, maps), black)


def test_both_axes_share_a_size_or_have_their_own():
    index = jnp.arange(64)
    for limits, shared in ((Warp(size=0.3), True), (Warp(scale=0.3), False)):
        matrix = limits.draw(jax.random.key(0), index, 1).matrix
        down, across = np.log(matrix[:, 0, 0]), np.log(matrix[:, 1, 1])
        assert np.allclose(down, across) is shared
        assert down.min() < -0.2 and 0.2 < down.max() < 0.3001


@pytest.mark.parametrize("factor", [2, 0.5])
def test_resampling_is_that_of_jax(factor):
    x = jax.random.normal(jax.random.key(0), (2, 6, 8, 3))
    shape = (2, int(6 * factor), int(8 * factor), 3)
    expected = jax.image.resize(x, shape, "bilinear")
    np.testing.assert_allclose(resnet._resize(x, factor), expected, atol=1e-6)


def test_smoothing_keeps_what_is_even_and_no_grid():
    even, spot = jnp.full((1, 4, 6, 2), 0.3), jnp.zeros((1, 3, 3, 1))
    rows, columns = np.mgrid[:6, :6] % 2
    for grid in (rows, columns, rows ^ columns):
        found = smooth(jnp.asarray(grid[None, ..., None], jnp.float32))
        np.testing.assert_allclose(found[:, 1:-1, 1:-1], 0.5, atol=1e-6)
    np.testing.assert_allclose(smooth(even), even, atol=1e-6)
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    np.testing.assert_allclose(smooth(spot.at[0, 1, 1].set(1.0))[0, ..., 0], kernel)
    corner = smooth(spot.at[0, 0, 0].set(1.0))[0, ..., 0]  # beyond it is as it is
    np.testing.assert_allclose(corner, np.outer([3, 1, 0], [3, 1, 0]) / 16)


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("architecture", ["dcgan", "dcgan_plain", "residual", "resnet"])
def test_larger_images(architecture, size):
    if size == 256 and architecture != "resnet":
        pytest.skip("dcgan ends at 128 pixels")
    config = Config(architecture=architecture, base_channels=4)
    shape = (size, size, 2)
    model = build_model(config, shape)
    state = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((4, *shape), np.uint8)
    after, _ = jax.eval_shape(make_train_step(model), state, images)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_the_last_convolution_of_a_block_begins_at_zero():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    block = resnet.Block()
    params = block.init(jax.random.key(1), x)
    np.testing.assert_array_equal(block.apply(params, x), x)
