"""What the networks are made of: convolutions with fast derivatives, and the rest.

`convolve` keeps height and width. `downsample` halves them with a 4 x 4 kernel and
stride 2; `upsample` is its transpose and doubles them. Together with the gradients for
the kernels they close under differentiation, so each gets derivatives made of the
others. XLA's own choices are much slower for two of them on CPU: the kernel gradient,
which it brings into its fast form outside of loops only, and the transpose. Values and
gradients equal those of `lax.conv_general_dilated` and `lax.conv_transpose`.

Where `vmap` gives each batch a kernel of its own, as members have them, XLA would make
a grouped convolution, for which neither CPUs nor GPUs have a fast program. So in
training it is a matrix product there, of patches that are written out.

So it is in bfloat16 on CPUs, whose matrix units (AMX) XLA uses in products alone, and
only in those that contract the left factor's last axis and whose factors and result are
not transposed right beside them. All others it computes in float32, which takes four
times as long. The products here are written accordingly.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from infogan_jax.core.latents import Array

Initializer = nn.initializers.Initializer
Form = Callable[[Array, Array], Array]  # of one product

_DIMS = ("NHWC", "HWIO", "NHWC")
_PAD = ((1, 1), (1, 1))
_FEW = 6  # outputs

# The paper's and DCGAN's initialisation of every kernel, arXiv:1511.06434, section 4.
normal_init = nn.initializers.normal(0.02)


leaky = functools.partial(nn.leaky_relu, negative_slope=0.2)  # DCGAN's


def convolve(x: Array, kernel: Array) -> Array:
    """`[B, H, W, I]` and `[3, 3, I, O]` -> `[B, H, W, O]`."""
    return (_convolve_to_few if kernel.shape[-1] <= _FEW else _convolve)(x, kernel)


def _convolve_to_few(x: Array, kernel: Array) -> Array:
    """The same for few outputs, for which XLA's convolutions on CPUs are slow.

    One matrix product gives what each pixel adds to its 3 x 3 neighbourhood, then the
    overlapping neighbourhoods are summed.
    """
    batch, height, width, inputs = x.shape
    outputs = kernel.shape[-1]
    pixels = x.reshape(-1, inputs)  # XLA multiplies matrices faster than larger arrays
    parts = pixels @ kernel.transpose(2, 0, 1, 3).reshape(inputs, 9 * outputs)
    parts = parts.reshape(batch, height, width, 9 * outputs)
    parts = jnp.pad(_to_float32(parts), ((0, 0), *_PAD, (0, 0)))
    total: Array = sum(
        parts[:, row : row + height, column : column + width, first : first + outputs]
        for row in range(3)
        for column in range(3)
        for first in [(3 * row + column) * outputs]
    )  # type: ignore[assignment]
    return total.astype(x.dtype)


@jax.custom_vjp
def _convolve(x: Array, kernel: Array) -> Array:
    return _convolution(x, kernel, 1)


@jax.custom_vjp
def downsample(x: Array, kernel: Array) -> Array:
    """`[B, 2H, 2W, I]` and `[4, 4, I, O]` -> `[B, H, W, O]`."""
    return _convolution(x, kernel, 2)


@jax.custom_vjp
def upsample(y: Array, kernel: Array) -> Array:
    """Its transpose: `[B, H, W, O]` and `[4, 4, I, O]` -> `[B, 2H, 2W, I]`.

    One matrix product gives what each pixel of y adds to its 4 x 4 neighbourhood, then
    the overlapping neighbourhoods are summed, 2 x 2 cells at a time.
    """
    batch, height, width, outputs = y.shape
    inputs = kernel.shape[2]
    patches = jnp.einsum(
        "po,so->ps", y.reshape(-1, outputs), kernel.reshape(-1, outputs)
    )
    patches = _to_float32(patches).reshape(batch, height, width, 2, 2, 2, 2, inputs)
    cells: Array = sum(
        jnp.pad(
            patches[:, :, :, row, :, column],
            ((0, 0), (row, 1 - row), (column, 1 - column), (0, 0), (0, 0), (0, 0)),
        )
        for row in range(2)
        for column in range(2)
    )  # type: ignore[assignment]
    cells = cells.transpose(0, 1, 3, 2, 4, 5).astype(y.dtype)
    images = cells.reshape(batch, 2 * height + 2, 2 * width + 2, inputs)[:, 1:-1, 1:-1]
    # XLA would sum the neighbourhoods again for each of up to six readers.
    return lax.optimization_barrier(images)


def _to_float32(x: Array) -> Array:
    """In float32 at least, so that a sum of several is rounded once."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _convolution(x: Array, kernel: Array, stride: int) -> Array:
    def convolution(x: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), _PAD, dimension_numbers=_DIMS
        )

    return _choose_form(
        convolution, functools.partial(_product, stride=stride), x, kernel
    )


def _product(x: Array, kernel: Array, stride: int) -> Array:
    return _patches_of(x, stride) @ kernel.reshape(-1, kernel.shape[-1])


def _choose_form(convolution: Form, product: Form, x: Array, other: Array) -> Array:
    """One of two forms of the same."""
    if x.shape[-1] == 1:  # cuDNN leaves these to slow kernels without tensor cores
        return product(x, other)
    if x.dtype == jnp.bfloat16:
        return lax.platform_dependent(x, other, cpu=product, default=convolution)
    return convolution(x, other)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _trained_convolution(x: Array, kernel: Array, stride: int) -> Array:
    """`convolve` or `downsample`, where derivatives are taken.

    Elsewhere `custom_vmap` would only be in the way of those who read the program.
    """
    return _product_if_batched(_convolution, _product, stride)(x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _kernel_gradient(x: Array, y: Array, stride: int) -> Array:
    """The gradient of <convolution of x, y> for the kernel, `[4, 4, I, O]` or 3 x 3.

    A convolution with batch and channels in each other's place, written with the
    transpositions that make it an ordinary one.
    """
    return _product_if_batched(_gradient_convolution, _gradient_product, stride)(x, y)


def _gradient_convolution(x: Array, y: Array, stride: int) -> Array:
    def convolution(x: Array, y: Array) -> Array:
        gradient = lax.conv_general_dilated(
            x.transpose(3, 1, 2, 0),
            y.transpose(1, 2, 0, 3),
            (1, 1),
            _PAD,
            rhs_dilation=(stride, stride),
            dimension_numbers=_DIMS,
        )
        return gradient.transpose(1, 2, 0, 3)

    return _choose_form(
        convolution, functools.partial(_gradient_product, stride=stride), x, y
    )


def _gradient_product(x: Array, y: Array, stride: int) -> Array:
    patches = _patches_of(x, stride)
    # The smaller factor is the one to transpose.
    if patches.shape[-1] < y.shape[-1]:
        gradient = jnp.einsum("bhws,bhwo->so", patches, y)
    else:
        gradient = jnp.einsum("bhwo,bhws->os", y, patches)
        # Keeps XLA from exchanging the two, for the sake of the transposition.
        gradient = lax.optimization_barrier(gradient).T
    side = stride + 2
    return gradient.reshape(side, side, x.shape[-1], y.shape[-1])


def _product_if_batched(convolution: Callable, product: Callable, stride: int) -> Form:
    """The convolution, but the product where `vmap` is over both of its inputs."""
    convolution = functools.partial(convolution, stride=stride)
    product = functools.partial(product, stride=stride)
    function = custom_vmap(convolution)

    @function.def_vmap
    def batched(
        size: int, is_batched: list[bool], *inputs: Array
    ) -> tuple[Array, bool]:
        form = product if all(is_batched) else convolution
        axes = [0 if one else None for one in is_batched]
        return jax.vmap(form, axes, axis_size=size)(*inputs), True

    return function


def _patches_of(x: Array, stride: int) -> Array:
    """What each pixel of a convolution sees: `[B, H / stride, W / stride, S S I]`."""
    batch, height, width, inputs = x.shape
    # XLA would compute x again for each of up to nine parts.
    x = lax.optimization_barrier(jnp.pad(x, ((0, 0), *_PAD, (0, 0))))
    # As many columns as the stride has are side by side in memory.
    x = x.reshape(batch, height + 2, -1, stride * inputs)
    side = stride + 2  # of the kernel
    parts = [
        x[:, row : row + height : stride, column : column + width // stride]
        for row in range(side)
        for column in range(side // stride)
    ]
    return jnp.concatenate(parts, -1)


def _transpose(y: Array, kernel: Array, stride: int) -> Array:
    """What the convolution with the kernel is transposed to."""
    if stride == 1:
        return _trained_convolution(y, kernel[::-1, ::-1].swapaxes(2, 3), 1)
    return upsample(y, kernel)


def _backward(stride: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return _transpose(g, kernel, stride), _kernel_gradient(x, g, stride)


_convolve.defvjp(
    lambda x, kernel: (_trained_convolution(x, kernel, 1), (x, kernel)),
    functools.partial(_backward, 1),
)
downsample.defvjp(
    lambda x, kernel: (_trained_convolution(x, kernel, 2), (x, kernel)),
    functools.partial(_backward, 2),
)
_trained_convolution.defvjp(
    lambda x, kernel, stride: (_trained_convolution(x, kernel, stride), (x, kernel)),
    _backward,
)
upsample.defvjp(
    lambda y, kernel: (upsample(y, kernel), (y, kernel)),
    lambda saved, g: (
        _trained_convolution(g, saved[1], 2),
        _kernel_gradient(g, saved[0], 2),
    ),
)
_kernel_gradient.defvjp(
    lambda x, y, stride: (_kernel_gradient(x, y, stride), (x, y)),
    lambda stride, saved, g: (
        _transpose(saved[1], g, stride),
        _trained_convolution(saved[0], g, stride),
    ),
)


def smooth(x: Array) -> Array:
    """Each pixel averaged with its neighbours by 1, 2, 1 in both directions.

    `[B, H, W, C]`; what lies beyond the border is as the border is. Patterns of every
    second pixel, which strided convolutions tend to leave, are gone.

    Reference: Karras et al. 2019, StyleGAN, arXiv:1812.04948, appendix C.
    """
    # As products with small matrices, for sums of shifted images take several times as
    # long on CPUs.
    down, across = (_binomial(size) for size in x.shape[1:3])
    return jnp.einsum("bhwc,yh,xw->byxc", _to_float32(x), down, across).astype(x.dtype)


def _binomial(size: int) -> Array:
    """What each smoothed pixel of a line takes of each pixel, `[size, size]`."""
    weights = 2 * jnp.eye(size) + jnp.eye(size, k=1) + jnp.eye(size, k=-1)
    return weights.at[0, 0].add(1).at[-1, -1].add(1) / 4


class _Layer(nn.Module):
    """A product with a kernel, and a bias."""

    features: int
    use_bias: bool = True
    dtype: jnp.dtype | None = None
    kernel_init: Initializer = normal_init

    def _with_bias(self, product: Form, x: Array, shape: tuple[int, ...]) -> Array:
        """`product(x, kernel)`, the kernel of that shape, in the dtype, and a bias."""
        kernel = self.param("kernel", self.kernel_init, shape)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        x = product(x, kernel)
        if not self.use_bias:
            return x
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        # Its gradient is a sum over all pixels, which in bfloat16 stops at some 1,000
        return (_to_float32(x) + bias).astype(x.dtype)


class Convolve(_Layer):
    """A 3 x 3 convolution."""

    kernel_init: Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return self._with_bias(convolve, x, (3, 3, x.shape[-1], self.features))


class Downsample(_Layer):
    """Halves height and width: a 4 x 4 convolution with stride 2."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return self._with_bias(downsample, x, (4, 4, x.shape[-1], self.features))


class Upsample(_Layer):
    """Doubles height and width: a 4 x 4 transposed convolution with stride 2."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return self._with_bias(upsample, x, (4, 4, self.features, x.shape[-1]))


class Dense(_Layer):
    """A matrix product over the last axis."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return self._with_bias(_matmul, x, (x.shape[-1], self.features))


def _matmul(x: Array, kernel: Array) -> Array:
    short = x.dtype == jnp.bfloat16 and x.ndim == 2
    return _short_matmul(x, kernel) if short else x @ kernel


@jax.custom_vjp
def _short_matmul(x: Array, kernel: Array) -> Array:
    """`x @ kernel` of matrices, whose derivatives are products for AMX too."""
    return x @ kernel


def _matmul_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    # Over two axes, for then XLA transposes x apart from the product.
    gradient = jnp.einsum("abi,abo->io", x[None], g[None])
    return jnp.einsum("bo,io->bi", g, kernel), gradient


_short_matmul.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _matmul_backward)


def batch_norm(train: bool, dtype: Any, axis_name: str | None) -> nn.BatchNorm:
    """Over the whole batch, on all devices of the axis."""
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, dtype=dtype, axis_name=axis_name
    )


class Recognizer(nn.Module):
    """D's features `[B, F]` -> parameters of Q(c|x), `[B, n_params]`."""

    n_params: int
    hidden: int = 128
    slope: float = 0.1  # of the leaky rectifier
    normalise: bool = True
    dtype: jnp.dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, features: Array, train: bool) -> Array:
        x = Dense(self.hidden, not self.normalise, self.dtype)(features)
        if self.normalise:
            x = batch_norm(train, self.dtype, self.axis_name)(x)
        x = nn.leaky_relu(x, self.slope)
        self.sow("intermediates", "hidden", x)  # for `InfoGAN.embed`
        x = Dense(self.n_params, dtype=self.dtype)(x)
        return x.astype(jnp.float32)
