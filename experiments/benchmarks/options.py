"""The paper's step under options of XLA: which of them are worth setting.

    python -m experiments.benchmarks.options [--batch_size=128]

Of these the project sets none; what it sets, `compiling.compiler_options` says. The
first call of each compiles it, so that its time tells what an option costs or saves
there. What each does: XLA_FLAGS=--help. Those known to be slower by far are not among
them, such as a program that is not tuned.
"""

from typing import Any

import jax
from absl import app, flags

from experiments.benchmarks import ours, timing
from infogan_jax import Config

FLAGS = flags.FLAGS
flags.DEFINE_integer("batch_size", 128, "Images per step.")
flags.DEFINE_integer("repeats", 5, "Times each side is measured, in turn.")
flags.DEFINE_integer("stretch", 5, "Steps per measurement.")

_GRAPHS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONVOLUTION"
_LOOP = {"xla_gpu_enable_command_buffer": f"{_GRAPHS},WHILE,CONDITIONAL"}
_YNNPACK = ",".join(
    f"LIBRARY_FUSION_TYPE_{kind}"
    for kind in ("INDIVIDUAL_DOT", "INDIVIDUAL_CONVOLUTION", "REDUCE")
)
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "cpu": {
        "convolutions by YNNPACK": {"xla_cpu_experimental_ynn_fusion_type": _YNNPACK},
        "oneDNN": {"xla_cpu_use_onednn": True},
        "vectors of 512 bits": {"xla_cpu_prefer_vector_width": 512},
        "fewer copies": {"xla_cpu_copy_insertion_use_region_analysis": True},
        "LLVM at its third level": {"xla_backend_optimization_level": 3},
    },
    "gpu": {
        "no products by Triton": {"xla_gpu_enable_triton_gemm": False},
        "no CUDA graphs": {"xla_gpu_enable_command_buffer": ""},
        "convolutions in graphs too": {"xla_gpu_enable_command_buffer": _GRAPHS},
        "the whole loop in one graph": _LOOP,
        "the same, kernels side by side": {
            **_LOOP,
            "xla_gpu_command_buffer_scheduling_mode": "CONCURRENT",
        },
    },
}


def main(_):
    print(timing.machine())
    config, device = Config(batch_size=FLAGS.batch_size), jax.devices()[0]
    variants = {"as it is": {}, **OPTIONS.get(device.platform, {})}
    sides = {
        name: ours.steps(config, FLAGS.stretch, devices=[device], options=options)
        for name, options in variants.items()
    }
    times = timing.in_turn(sides, FLAGS.repeats)
    timing.show(times, "as it is", FLAGS.stretch / 1e3, "ms")


if __name__ == "__main__":
    app.run(main)
