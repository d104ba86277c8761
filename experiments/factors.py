"""How disentangled the codes are, by objective and seed, on images of known factors.

    python -m experiments.factors --flagfile=sprites --seeds=10 --table=factors.csv

Each row is one seed of one objective, measured on held-out images. One seed of each is
chosen by ModelCentrality, which looks at no factor. `known_changes` is the flagfile as
it is: codes follow how copies were moved and scaled, which is weak supervision. The
others know of no change. `contrastive` adds what InfoGAN-CR does: half of the pictures
share exactly one code with one of the other half, and Q says which. There a network of
its own sees each pair; here both pictures pass D's trunk. `spectral` has spectral
normalisation in D besides.

References:
    Lin et al. 2020, InfoGAN-CR, arXiv:1906.06034, sections 3 and 5.
    Miyato et al. 2018, arXiv:1802.05957, section 2.
"""

import csv
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from PIL import Image

from experiments.in_memory import fit
from infogan_jax import Config, InfoGAN, Trained, build_model
from infogan_jax.build import build_networks
from infogan_jax.core.latents import Continuous, param_dim, split_params
from infogan_jax.core.models.layers import leaky
from infogan_jax.core.objective import D_TERMS, G_TERMS, Seen
from infogan_jax.core.spec import parse_spec
from infogan_jax.data import load
from infogan_jax.evaluation import disentanglement
from infogan_jax.evaluation.selection import mean_of_others, model_centrality
from infogan_jax.flags import config_from_flags, parse_flags
from infogan_jax.reporting import figures

FLAGS = flags.FLAGS
flags.DEFINE_integer("seeds", 10, "Seeds of each objective, from --seed on.")
flags.DEFINE_string("table", "factors.csv", "File of all measures, by seed.")
flags.DEFINE_string("picture", None, "PNG file: traversals of the last objective.")

_SHOWN = "factor_vae", "dci_disentanglement", "mig", "sap", "info_modularity"
_PLAIN: dict[str, Any] = {
    "augment": "none",
    "real_mi_weight": 0.0,
    "equivariance_weight": 0.0,
    "prior_weight": 0.0,
}


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What Q says of a picture to compare it with another: no latent, `size` numbers.

    It is a code for Q's sake, of no width and no information.
    """

    name: str
    n_params: int
    weight: float = 0.0
    dim: int = 0

    def sample(self, key):
        return jnp.zeros(0)

    def log_prob(self, params, value):
        return jnp.zeros(params.shape[:-1])

    def entropy(self):
        return 0.0

    def upper_bound(self):
        return 0.0

    def infer(self, params):
        return jnp.zeros((*params.shape[:-1], 0))

    def traverse(self, n, low, high):
        return jnp.zeros((n, 0))

    def check(self, number):
        raise ValueError("a fingerprint has no value")

    def encode(self, number):
        raise ValueError("a fingerprint has no value")


@dataclasses.dataclass(frozen=True)
class InPairs(InfoGAN):
    """An InfoGAN half of whose latents share one code with one of the other half."""

    def sample_latents(self, key, n, offset=0, frequencies=None):
        latents = InfoGAN.sample_latents(self, key, n, offset, frequencies)
        first, second = jnp.split(latents, 2)
        chosen = jax.random.randint(
            jax.random.fold_in(key, n), (n // 2,), 0, len(self.continuous)
        )
        shares = _places(self)[chosen]
        return jnp.concatenate([first, jnp.where(shares, first, second)])


def _places(model: InfoGAN) -> jax.Array:
    """Which latent is which continuous code, bool `[K, L]`."""
    rows, start = [], 0
    for code in model.spec:
        if code in model.continuous:
            rows.append(np.arange(model.latent_dim) == start)
        start += code.dim
    return jnp.asarray(np.array(rows))


def contrast(seen: Seen) -> tuple[jax.Array, dict[str, jax.Array]]:
    """-log of the probability that Q gives the code which two pictures share, in nats.

    The nearer two fingerprints are in a code's numbers, the likelier it is that one.
    """
    places, n = _places(seen.model), len(seen.batch.latents)
    first, second = jnp.split(seen.batch.latents, 2)
    shared = ((first == second)[:, None] & places).any(-1)
    prints = split_params(seen.model.spec, seen.fake.q_params[:n])["fingerprint"]
    a, b = jnp.split(prints.reshape(n, len(places), -1), 2)
    loss = -jax.nn.log_softmax(-((a - b) ** 2).sum(-1))
    mean = (shared * loss).sum() / shared.sum()
    return mean, {"loss/contrast": mean}


class SpectralDiscriminator(nn.Module):
    """DCGAN's D with spectral normalisation in place of batch normalisation."""

    widths: tuple[int, ...]  # of the stages, from full resolution inwards

    @nn.compact
    def __call__(self, images, train: bool):
        def normalised(layer: nn.Module, x: jax.Array) -> jax.Array:
            norm = nn.SpectralNorm(layer, collection_name="batch_stats")
            return norm(x, update_stats=train)

        x = images
        for width in self.widths:
            x = leaky(normalised(nn.Conv(width, (4, 4), 2), x))
        features = x.reshape(len(x), -1)
        return normalised(nn.Dense(1), features)[:, 0], features


def contrastive(config: Config, image_shape: Any, spectral: bool = False) -> InfoGAN:
    """The model with InfoGAN-CR's term in both players' losses."""
    spec = parse_spec(config.codes)
    count = sum(code.n_params == 1 for code in spec)
    spec = (*spec, Fingerprint("fingerprint", 4 * count))
    networks = build_networks(config, image_shape, param_dim(spec))
    if spectral:
        outer = config.base_channels or 32
        widths = tuple(outer * min(2**i, 8) for i in range(4))
        networks = networks._replace(discriminator=SpectralDiscriminator(widths))
    made = build_model(
        config,
        image_shape,
        spec=spec,
        networks=networks,
        d_terms=(*D_TERMS, contrast),
        g_terms=(*G_TERMS, contrast),
    )
    fields = {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}
    return InPairs(**fields)


def spectral(config: Config, image_shape: Any) -> InfoGAN:
    """The same with spectral normalisation in D."""
    return contrastive(config, image_shape, spectral=True)


_OBJECTIVES: dict[str, tuple[dict[str, Any], Callable[..., InfoGAN]]] = {
    "infogan": (_PLAIN, build_model),
    "contrastive": (_PLAIN, contrastive),
    "spectral": (_PLAIN, spectral),
    "known_changes": ({}, build_model),
}


def main(_):
    logging.set_verbosity(logging.ERROR)  # Orbax has much to say
    config = config_from_flags()
    spec = parse_spec(config.codes)
    if FLAGS.picture and not any(isinstance(code, Continuous) for code in spec):
        sys.exit(f"--codes={config.codes}: no continuous code for --picture")
    data = load(config)
    factors, images = disentanglement.factors_of(data), data.images[:]
    table: list[dict[str, Any]] = []
    print(f"| objective | seed | {' | '.join(_SHOWN)} | centrality | minutes |")
    print("|---" * (len(_SHOWN) + 4) + "|", flush=True)
    for name in FLAGS.objectives or _OBJECTIVES:
        changes, make_model = _OBJECTIVES[name]
        members: list[Trained] = []
        rows: list[dict[str, Any]] = []
        for seed in range(config.seed, config.seed + FLAGS.seeds):
            start = time.perf_counter()
            changed = dataclasses.replace(config, **changes, seed=seed)
            model = make_model(changed, images.shape[1:])
            members.append(fit(changed, images, model))
            codes = disentanglement.read(members[-1], data.eval_images)
            minutes = (time.perf_counter() - start) / 60
            measures = disentanglement.measure(codes, factors)
            rows.append({"objective": name, "seed": seed, **measures})
            _tell(rows[-1], "", f"{minutes:.1f}")
        if FLAGS.seeds > 2:
            for row, score in zip(
                rows, mean_of_others(model_centrality(members)), strict=True
            ):
                row["centrality"] = float(score)
            chosen = max(rows, key=lambda row: row["centrality"])
            _tell({**chosen, "seed": f"{chosen['seed']}, chosen"}, chosen["centrality"])
        mean = {key: np.mean([row[key] for row in rows]) for key in _SHOWN}
        _tell({"objective": name, "seed": "mean", **mean})
        table += rows
        with Path(FLAGS.table).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
        if FLAGS.picture:
            order = np.argsort([-row["mig"] for row in rows])
            named = {"best": order[0], "median": order[len(order) // 2]}
            named["worst"] = order[-1]
            shown = {name: members[i] for name, i in named.items()}
            figures.save(traversals(shown), Path(FLAGS.picture))


def traversals(members: dict[str, Trained]) -> Image.Image:
    """Pictures along each continuous code, a row each; the rest of a latent is one."""
    images, labels = [], []
    for name, trained in members.items():
        key = figures.figure_key(0)
        for code in trained.model.continuous:
            latents = figures.traverse_latents(key, trained.spec, code.name)
            images.append(trained.generate(latents[: figures.ROWS]))
            labels.append(f"{name}, {code.name}")
    return figures.image_grid(np.concatenate(images), figures.ROWS, labels)


def _tell(row: dict[str, Any], centrality: Any = "", minutes: str = "") -> None:
    numbers = [f"{row[name]:.3f}" for name in _SHOWN]
    score = f"{centrality:.3f}" if centrality != "" else ""
    cells = [row["objective"], row["seed"], *numbers, score, minutes]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
