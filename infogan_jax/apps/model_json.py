"""model.json of an export: what its numbers mean, and how images become its input."""

from typing import Any

from infogan_jax.config import Config
from infogan_jax.core.latents import Bernoulli, Categorical, Code, Noise, trained_range
from infogan_jax.data import preparation
from infogan_jax.evaluation.results import surest_first
from infogan_jax.fields import plain_name
from infogan_jax.inference import Trained
from infogan_jax.pixels import channel_colours, channel_names
from infogan_jax.run.directory import MemberFolder, Run
from infogan_jax.run.records import Evaluation

FORMAT = 3
_MOST_EFFECTS = 20  # rows of treatments


def describe(run: Run, folder: MemberFolder, trained: Trained) -> dict[str, Any]:
    """Returns what model.json says of codes, images and the run.

    Args:
        run: the run.
        folder: of the member, for its measures.
        trained: the member; measures of another step than its own are left out.
    """
    model, info = trained.model, run.info
    evaluation = folder.load_evaluation(trained.step) or Evaluation(trained.step, 0)
    height, width, channels = model.image_shape
    class_names = [] if are_groups(run.config) else info.class_names
    codes, offset, q_offset = [], 0, 0
    for code in trained.spec:
        codes.append(
            _describe_code(code, evaluation, class_names)
            | {"offset": offset, "dim": code.dim}
            | {"q_offset": q_offset, "n_params": code.n_params}
        )
        offset, q_offset = offset + code.dim, q_offset + code.n_params
    return {
        "format": FORMAT,
        "step": trained.step,
        "latent_dim": model.latent_dim,
        "param_dim": model.param_dim,
        "image": {
            "height": height,
            "width": width,
            "channels": channels,
            "composite": channel_colours(channels, run.config.composite),
            "channel_names": channel_names(channels, run.config.composite),
            "ranges": info.form.ranges,
            "pixel_size": info.form.shown_pixel_size,
            "preparation": preparation(run.config, model.image_shape, info.form),
        },
        "codes": codes,
        "dataset": _dataset(run.config.dataset),
        "treatments": _treatments(evaluation, trained, run.config),
        "metrics": _metrics(evaluation, are_groups(run.config)),
        "versions": info.versions,
    }


def _describe_code(
    code: Code, evaluation: Evaluation, class_names: list[str]
) -> dict[str, Any]:
    about: dict[str, Any] = {"name": code.name, "kind": type(code).__name__.lower()}
    if isinstance(code, Noise):
        return about
    about["entropy"] = code.entropy()
    if isinstance(code, Categorical | Bernoulli):
        size = code.size if isinstance(code, Categorical) else 2
        matched = class_names and evaluation.class_of_category(code.name, class_names)
        about["labels"] = matched or [None] * size
        if isinstance(code, Categorical) and code.prior is not None:
            about["frequencies"] = [round(p, 5) for p in code.prior]
        return about
    low, high = trained_range(code)
    about |= {"trained": [low, high], "allowed": [2 * low, 2 * high]}
    row = evaluation.rows("traversal").get(code.name)
    if row and row["name"] in row["r2"]:
        about |= {"meaning": row["name"], "r2": round(row["r2"][row["name"]], 3)}
    return about


def are_groups(config: Config) -> bool:
    """Returns whether classes are the names of groups, which may be patients."""
    return bool(config.label_by) and (
        plain_name(config.label_by) == plain_name(config.group_by)
    )


def _treatments(
    evaluation: Evaluation, trained: Trained, config: Config
) -> list[dict[str, Any]]:
    """The surest effects of treatments, each on a code or on a category of one.

    None of a column that names groups, which may be patients.
    """
    places = {
        f"{code.name} {k}": (code.name, k)
        for code in trained.spec
        if isinstance(code, Categorical)
        for k in range(code.size)
    }
    measured = evaluation.overall("treatments")
    rows: list[Any] = [
        row
        for row in surest_first(measured["rows"] if measured else [])
        if row["effect"] is not None
        and plain_name(row["column"]) != plain_name(config.group_by)
    ]
    shown = "column", "value", "effect", "low", "high", "q"
    effects = []
    for row in rows[:_MOST_EFFECTS]:
        code, category = places.get(row["code"], (row["code"], None))
        numbers = {name: row[name] for name in shown}
        effects.append({"code": code, "category": category} | numbers)
    return effects


def _dataset(name: str) -> str:
    """What to call a dataset; a user's own folder is not named."""
    return "a folder" if name.startswith("folder:") else name


def _metrics(evaluation: Evaluation, without_classes: bool) -> dict[str, float]:
    """The few numbers that the page shows."""
    shown = {}
    for name, row in evaluation.rows("clustering").items():
        shown[f"accuracy of {name}"] = row["accuracy"]
    for name, row in () if without_classes else evaluation.rows("code_auc").items():
        shown[f"AUC of {row['code']} for {name}"] = row["auc"]
    if rows := evaluation.rows("fidelity"):
        shown["FID"] = rows["generated"]["fid"]
    return {name: round(value, 4) for name, value in shown.items()}
