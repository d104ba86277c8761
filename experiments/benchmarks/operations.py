"""Where the time of a step goes, and the bytes: by network and layer, and by rate.

    python -m experiments.benchmarks.operations --flagfile=malaria_few_codes

An untrained model of the flagfile on noise. Bytes are those of what an operation reads
and writes; a slow rate is one of arithmetic, or of code that XLA made badly.
"""

import collections
import glob
import gzip
import json
import math
import re
import tempfile
from typing import NamedTuple

import jax
import numpy as np
from absl import app, flags, logging

from experiments.benchmarks import ours, timing
from infogan_jax import build_model, make_train_step
from infogan_jax.data import load
from infogan_jax.distributed import devices as placing
from infogan_jax.flags import config_from_flags, parse_flags
from infogan_jax.run.directory import initial_state

FLAGS = flags.FLAGS
flags.DEFINE_integer("stretch", 8, "Steps of a call; three calls are measured.")
flags.DEFINE_integer("rows", 12, "Layers, and operations, that are shown.")

_CALLS = 3
_NETWORKS = {"G": "Generator", "D": "Discriminator", "Q": "Recognizer"}
_BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "u8": 1, "pred": 1}
_RATES = (2, 5, 10, 20, math.inf)  # GB/s


class Operation(NamedTuple):
    """One operation of the compiled step."""

    name: str
    layer: str  # such as "G Upsample_3", or "G Upsample_3 back" of its gradient
    result: str  # its shape
    seconds: float  # of a step
    size: float  # bytes read and written


def measure(shape: tuple[int, int, int]) -> list[Operation]:
    """The operations of a step that take time, the longest first."""
    config, length = config_from_flags(), FLAGS.stretch
    model, mesh = build_model(config, shape), placing.make_mesh(jax.devices()[:1])
    images = ours.noise(length * config.batch_size, shape)
    batches = np.arange(len(images)).reshape(length, -1)
    state = initial_state(model.init, config, placing.placement(mesh, 1))
    arrays = placing.replicate(images, mesh)
    run = placing.make_multi_step(make_train_step(model), mesh, length)
    run = run.lower(state, arrays, batches).compile()
    state, *_ = jax.block_until_ready(run(state, arrays, batches))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(_CALLS):
                state, *_ = jax.block_until_ready(run(state, arrays, batches))
        [path] = glob.glob(f"{folder}/**/*.trace.json.gz", recursive=True)
        with gzip.open(path) as file:
            events = json.load(file)["traceEvents"]
    seconds: collections.Counter[str] = collections.Counter()
    for event in events:
        if name := event.get("args", {}).get("hlo_op"):
            seconds[name] += event["dur"] / 1e6 / (_CALLS * length)
    lines = dict(
        re.findall(r"^\s*(?:ROOT )?%?([\w.-]+) = (.*)$", run.program.as_text(), re.M)
    )
    return [
        Operation(
            name,
            _layer(lines.get(name, "")),
            lines.get(name, "").partition("{")[0],
            spent,
            _size(name, lines) + sum(_size(x, lines) for x in _inputs(name, lines)),
        )
        for name, spent in seconds.most_common()
        if not name.startswith(("while", "call", "conditional"))
    ]


def _layer(line: str) -> str:
    """The network and the layer of it, by the name that JAX has given."""
    [path] = re.findall(r'op_name="([^"]*)"', line) or [""]
    network = next((k for k, name in _NETWORKS.items() if name in path), "rest")
    names = re.findall(r"(?:/|^)([A-Z]\w*_\d+)", path)
    back = " back" if "transpose(jvp" in path else ""
    last = re.sub(r"\W", " ", path.rpartition("/")[2])
    return f"{network} {names[0] if names else last}{back}"


def _inputs(name: str, lines: dict[str, str]) -> list[str]:
    arguments = re.search(r"\w\(([^)]*)\)", lines.get(name, ""))
    return re.findall(r"%([\w.-]+)", arguments[1]) if arguments else []


def _size(name: str, lines: dict[str, str]) -> float:
    """Bytes of an operation's results."""
    results = re.match(r"\(.*?\)|\S+", lines.get(name, ""))
    arrays = re.findall(r"(\w+)\[([\d,]*)\]", results[0]) if results else []
    return sum(
        _BYTES.get(kind, 4) * math.prod(map(int, filter(None, sides.split(","))))
        for kind, sides in arrays
    )


def main(_):
    logging.set_verbosity(logging.ERROR)  # tfds has much to say
    operations = measure(load(config_from_flags()).images.shape[1:])
    total = sum(o.seconds for o in operations)
    size = sum(o.size for o in operations)
    print(timing.machine())
    print(f"{total * 1e3:.0f} ms, {size / 1e9:.2f} GB, {len(operations):,} operations")
    layers: dict[str, list[Operation]] = collections.defaultdict(list)
    for one in operations:
        layers[one.layer].append(one)
    rows = [
        (sum(o.seconds for o in parts), sum(o.size for o in parts), name)
        for name, parts in layers.items()
    ]
    for spent, moved, name in sorted(rows, reverse=True)[: FLAGS.rows]:
        print(f"{spent / total:5.1%} {moved / spent / 1e9:5.1f} GB/s  {name}")
    for one in operations[: FLAGS.rows]:
        rate = one.size / one.seconds / 1e9
        print(f"{one.seconds * 1e3:6.2f} ms {rate:5.1f} GB/s  {one.result} {one.layer}")
    low = 0.0
    for high in _RATES:
        here = [o for o in operations if low <= o.size / o.seconds / 1e9 < high]
        part = sum(o.seconds for o in here) / total
        print(f"below {high:g} GB/s: {part:.0%} of the time, {len(here)} operations")
        low = high


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
