"""How programs are compiled."""

import functools
import os
from typing import Any

import jax

# YNNPACK computes all but convolutions: XLA's own kernel gradients take a third of the
# time. LLVM at its first level takes four fifths of the time of its third, for programs
# that are as fast.
_CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
    ),
    "xla_backend_optimization_level": "1",
}


@functools.cache
def compiler_options(platform: str) -> dict[str, str]:
    """Returns options for `jax.jit` by which steps are fast, and compiled soon.

    Empty for "gpu" and "tpu". Without those that XLA_FLAGS sets, and those that this
    XLA does not have.
    """
    given = os.environ.get("XLA_FLAGS", "")
    wanted = {name: value for name, value in _CPU_OPTIONS.items() if name not in given}
    if platform != "cpu" or not wanted:
        return {}
    if _are_known(wanted):
        return wanted
    return {name: x for name, x in wanted.items() if _are_known({name: x})}


def _are_known(options: dict[str, Any]) -> bool:
    try:
        jax.jit(lambda: 0).lower().compile(options)
    except jax.errors.JaxRuntimeError:
        return False
    return True
