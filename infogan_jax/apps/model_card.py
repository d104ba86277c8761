"""The model card of an export: what was trained, on what, how well, and its limits.

Reference: Mitchell et al. 2019, Model Cards for Model Reporting, arXiv:1810.03993.
"""

import dataclasses
import json
from typing import Any

from infogan_jax.apps.model_json import are_groups
from infogan_jax.config import PATH_FIELDS, Config
from infogan_jax.reporting.report import describe
from infogan_jax.run.directory import MemberFolder, Run
from infogan_jax.run.records import Evaluation

# Evaluators whose lines hold values of a user's own table, and names of classes
_PRIVATE = "metadata", "treatments"
_OF_CLASSES = "clustering", "code_auc"
# Settings that the table shows, and those that may hold a path or a name of the user's
_NOT_SHOWN = (
    *("dataset", "seed", "num_seeds", *PATH_FIELDS),
    *("download_url", "file_pattern", "normalise_by", "compare"),
    *("group_by", "label_by"),
)
_WARNING = "warning: "

_TEMPLATE = """---
title: {title}
sdk: static
library_name: infogan_jax
tags: [infogan, gan, jax, onnx, disentanglement]
---
# {name}

{intro}

## Training

| | |
|---|---|
| data | {dataset}, {shape} |
| objective | {objective} |
| steps, seed | {step:,} of {steps:,}, seed {seed}{members} |
| software, hardware | {software}; {devices} |

{labels} Settings other than the defaults:

```
{settings}
```

## Measures

{measures}

## Codes

{codes}

## Limits

{limits}

## Files

`index.html` is a page with a slider for each code; any web server can serve the folder.
`recognize.py` reads images of any size with NumPy and onnxruntime, and
`bioimageio.yaml` describes the recogniser for bioimage.io.
`generator.onnx` takes latents `[B, {latent_dim}]` to images
`[B, {height}, {width}, {channels}]` in [0, 1]; `recognizer.onnx` takes images to the
parameters of Q(c|x), `[B, {param_dim}]`; `generator.stablehlo` is the generator for
`jax.export.deserialize`. `model.json` says what each number means. Weights are stored
as {weights}, and ONNX and JAX with these weights differ by {parity:.1e} at most; the
measures above are those of float32 weights.
"""


def model_card(run: Run, folder: MemberFolder, about: dict[str, Any]) -> str:
    """Returns the model card as Markdown.

    Args:
        run: the run.
        folder: of the member that is exported.
        about: the content of model.json.
    """
    config, image, versions = run.config, about["image"], run.info.versions
    evaluation = folder.load_evaluation(about["step"]) or Evaluation(about["step"], 0)
    private = _PRIVATE + (_OF_CLASSES if are_groups(config) else ())
    results = {k: v for k, v in evaluation.results.items() if k not in private}
    public = dataclasses.replace(evaluation, results=results)
    lines = describe(public, run.info.class_names)
    warnings = [x.removeprefix(_WARNING) for x in lines if x.startswith(_WARNING)]
    measured = [line for line in lines if not line.startswith(_WARNING)]
    return _TEMPLATE.format(
        name=about["name"],
        title=json.dumps(about["name"]),
        intro=_intro(config),
        dataset=f"`{about['dataset']}`",
        shape=f"{image['height']} x {image['width']} pixels, {_channels(run, image)}",
        objective=_objective(config),
        step=about["step"],
        steps=config.steps,
        seed=about["seed"],
        members=_of_members(run, about["seed"]),
        software=", ".join(f"{k} {v}" for k, v in versions.items()) or "not recorded",
        devices=_devices(run) or "not recorded",
        labels=_labels(run),
        weights=about["weights"],
        settings="\n".join(_settings(config)) or "none",
        measures=_bullets(measured or ["not measured"]),
        codes=_bullets(_codes(run, about["codes"])),
        limits=_bullets(_limits(config) + warnings),
        latent_dim=about["latent_dim"],
        param_dim=about["param_dim"],
        parity=max(about["parity"].values()),
        **{name: image[name] for name in ("height", "width", "channels")},
    )


def _intro(config: Config) -> str:
    if config.info_weight:
        return (
            "An InfoGAN ([arXiv:1606.03657](https://arxiv.org/abs/1606.03657)): a "
            "generator whose codes came to mean something without labels, and a "
            "recogniser that reads them in images."
        )
    return (
        "A plain GAN with a recogniser that watches: its codes were not asked to mean "
        "anything."
    )


def _devices(run: Run) -> str:
    """Kinds of devices; a CPU's kind is its platform once more."""
    kinds = (" ".join(dict.fromkeys(device.split())) for device in run.info.devices)
    return ", ".join(sorted(set(kinds)))


def _channels(run: Run, image: dict[str, Any]) -> str:
    count = image["channels"]
    if count == 1:
        return "grey"
    is_named = run.info.channels or "=" in run.config.composite
    names = f": {', '.join(image['channel_names'])}" if is_named else ""
    return f"{count} channels{names}"


def _objective(config: Config) -> str:
    extras = {
        "I(c; G)": config.info_weight,
        "augmentation": config.augment != "none",
        "I(c; x) on real images": config.real_mi_weight,
        "equivariance": config.equivariance_weight,
        "codes as quantiles": config.prior_weight,
        "pseudo-labels": config.pseudo_label_step,
        "a gradient penalty": config.penalty_weight,
    }
    used = [name for name, is_used in extras.items() if is_used]
    return ", ".join([f"{config.gan_loss} GAN", *used])


def _of_members(run: Run, seed: int) -> str:
    count, choice = len(run.members), run.load_choice()
    if count == 1:
        return ""
    is_chosen = choice is not None and choice.chosen == seed
    return f", one of {count}" + (", chosen without labels" if is_chosen else "")


def _labels(run: Run) -> str:
    config = run.config
    if config.filter_classifier:
        return (
            "Images were filtered by a network that was trained with labels "
            f"(`{config.filter_class}`)."
        )
    if not run.info.class_names:
        return "There are no labels."
    if are_groups(config):
        return "Labels are names of groups, which are left out."
    return "Labels were used to measure and to name, not to train."


def _settings(config: Config) -> list[str]:
    """The flags of what differs from the defaults, but for what may be private."""
    return [
        f"--{field.name}={getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default and field.name not in _NOT_SHOWN
    ]


def _codes(run: Run, codes: list[dict[str, Any]]) -> list[str]:
    lines = []
    for code, about in zip(run.model.spec, codes, strict=True):
        width = "a number" if code.dim == 1 else f"{code.dim} numbers"
        line = f"`{code.name}`: {about['kind']}, {width}"
        if "entropy" in about:
            line += f", H(c) = {about['entropy']:.2f} nats"
        if "frequencies" in about:
            shares = ", ".join(f"{share:.1%}" for share in about["frequencies"])
            line += f", with frequencies {shares}"
        if "meaning" in about:
            line += f"; changes {about['meaning']} (R2 {about['r2']:.2f})"
        if any(about.get("labels", [])):
            labels = ("none" if label is None else label for label in about["labels"])
            line += f"; its values match {', '.join(labels)}"
        lines.append(line)
    return lines


def _limits(config: Config) -> list[str]:
    limits = [
        "Names of codes say what was measured of pictures; a code may do more.",
        "Images of another kind than those trained on are read without a warning.",
        "A generated picture is no evidence: conclusions need real images.",
    ]
    if config.entropy_weight and config.real_mi_weight:
        limits.append("The objective supposes categories of about equal frequency.")
    return limits


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
