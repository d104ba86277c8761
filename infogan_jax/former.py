"""Names that former versions used: still read from a run's files, refused as flags."""

import re
from typing import Any

# Fields of config.json, which are flags too.
FIELDS = {
    "adversarial": "gan_loss",
    "agreement_share": "consistency_fraction",
    "balance_weight": "entropy_weight",
    "classifier": "eval_classifier",
    "decay_share": "lr_decay_fraction",
    "filter_above": "filter_threshold",
    "filter_by": "filter_classifier",
    "fit": "resize_mode",
    "frame_every": "sample_every",
    "groups": "group_csv",
    "input": "data_placement",
    "keep": "max_to_keep",
    "max_bad": "max_invalid_percent",
    "mirror": "download_url",
    "pattern": "file_pattern",
    "real_weight": "real_mi_weight",
    "regroup_at": "pseudo_label_step",
    "seeds": "num_seeds",
    "warp": "augment",
    "warp_every": "augment_every",
    "width": "base_channels",
}
# Flags that are no fields.
FLAGS = FIELDS | {
    "coordinator": "coordinator_address",
    "count": "num_samples",
    "latents": "latents_file",
    "open": "open_browser",
    "out": "output",
    "replica": "member",
    "set": "fix",
}
MODES = {
    "classify": "train_classifier",
    "explore": "serve",
    "generate": "sample",
    "recognize": "encode",
}
EVALUATORS = {
    "detection": "code_auc",
    "factors": "traversal",
    "generation": "conditional_accuracy",
    "pose": "pose_r2",
    "unlabelled": "label_free",
}
# Architectures that are gone -> what draws better in their place.
ARCHITECTURES = {"dcgan_smooth": "residual"}
_AUGMENT_PARTS = {
    "alone": "isolate_channel",
    "bend": "elastic",
    "darken": "brightness",
}
_METRICS = {  # beginnings of names in metrics.jsonl
    "information/": "mi_bound/",
    "information_real/": "mi_real/",
    "told/": "pseudo_label_ll/",
    "used/": "marginal_entropy/",
}
_MEASURES = {  # of a code, in evaluation.json, members.json and `eval/..` metrics
    "asked_is_got": "conditional_accuracy",
    "balance": "marginal_entropy",
    "copies": "near_duplicate_rate",
    "explained_by_pose": "r2",
    "floor": "real_reference",
    "information_real": "mi_real",
    "nmi_asked_got": "class_nmi",
}


def upgrade_config(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a config.json of any version by their names of today."""
    values = dict(values)
    if (kind := values.pop("real_information", None)) is not None:
        values["agreement_share"] = 1.0 if kind == "agreement" else 0.0
    is_former = bool(set(values) & set(FIELDS))
    values = {FIELDS.get(name, name): value for name, value in values.items()}
    if is_former:
        for name, upgrade in _VALUES.items():
            if isinstance(text := values.get(name), str):
                values[name] = upgrade(text)
    return values


def upgrade_augment(text: str) -> str:
    """Returns an augmentation's description with the parts' names of today."""
    return re.sub(r"(?<=:)(\w+)(?==)", lambda m: _AUGMENT_PARTS.get(m[1], m[1]), text)


def _upgrade_evaluators(text: str) -> str:
    return ",".join(EVALUATORS.get(n.strip(), n.strip()) for n in text.split(","))


_VALUES = {
    "augment": upgrade_augment,
    "codes": lambda text: text.replace(":spread=", ":sigma="),
    "evaluators": _upgrade_evaluators,
}


def upgrade_metrics(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row of metrics.jsonl by the names of today."""
    return {_metric(name): value for name, value in row.items()}


def _metric(name: str) -> str:
    if name.startswith("eval/"):
        _, *code, measure = name.split("/")
        code = ["real_reference" if part == "floor" else part for part in code]
        return "/".join(["eval", *code, _MEASURES.get(measure, measure)])
    for former, today in _METRICS.items():
        if name.startswith(former):
            return today + name.removeprefix(former)
    return name


def upgrade_evaluation(content: dict[str, Any]) -> dict[str, Any]:
    """Returns evaluation.json by the names of today; names of rows stay."""
    if not set(content) & set(EVALUATORS):
        return content
    content = {EVALUATORS.get(name, name): value for name, value in content.items()}
    for name, value in content.items():
        if not isinstance(value, dict):
            continue
        if name == "fidelity":
            value = {_MEASURES.get(k, k): v for k, v in value.items()}
        content[name] = {
            row: _rename(fields) if name != "code_auc" else fields
            for row, fields in value.items()
        }
    return content


def upgrade_choice(content: dict[str, Any]) -> dict[str, Any]:
    """Returns members.json by the names of today."""
    if "replicas" not in content:
        return content
    content = dict(content)
    content["members"] = [_rename(member) for member in content.pop("replicas")]
    return content


def _rename(fields: Any) -> Any:
    if not isinstance(fields, dict):
        return fields
    return {_MEASURES.get(name, name): value for name, value in fields.items()}


def upgrade_run(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of config.json with what belongs to the form within it."""
    if "form" in content:
        return content
    names = "ranges", "scale", "pixel_size"
    form = {name: content[name] for name in names if name in content}
    return {k: v for k, v in content.items() if k not in names} | {"form": form}


def upgrade_flag(name: str) -> str | None:
    """Returns the name of today of a former flag, with or without `no` before it."""
    return FLAGS.get(name) or FLAGS.get(name.removeprefix("no"))
