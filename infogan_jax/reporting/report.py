"""The end of a run: every member is measured and drawn, and one of them is chosen."""

import logging
from collections.abc import Sequence

import numpy as np

from infogan_jax.data import Data
from infogan_jax.evaluation import Subject, classification, evaluate
from infogan_jax.evaluation.results import Choice
from infogan_jax.evaluation.selection import choose
from infogan_jax.inference import Trained, TrainedClassifier
from infogan_jax.reporting import draw, figures
from infogan_jax.run.directory import MemberFolder, Run
from infogan_jax.run.records import Evaluation, write_classification

logger = logging.getLogger(__name__)


def report_run(
    run: Run, trained: list[Trained], data: Data, classifier: TrainedClassifier | None
) -> int:
    """Measures and draws all members, chooses one, and logs the results.

    Args:
        run: evaluation.json, members.json and figures are written there.
        trained: the members.
        data: measures use held-out images, the choice uses training images.
        classifier: the classification network of `config.eval_classifier`.

    Returns:
        The place of the chosen member.
    """
    evaluations = [
        _report_member(folder, member, data, classifier)
        for folder, member in zip(run.members, trained, strict=True)
    ]
    chosen = 0
    if len(trained) > 1:
        seeds = run.config.seeds
        results = [evaluation.results for evaluation in evaluations]
        by = run.config.choose_by
        choice = choose(trained, seeds, results, data.images, by)
        chosen = seeds.index(choice.chosen)
        run.save_choice(choice)
        logger.info("\n".join(_choice_lines(choice)))
    logger.info("\n".join(describe(evaluations[chosen], data.class_names)))
    return chosen


def _report_member(
    folder: MemberFolder,
    trained: Trained,
    data: Data,
    classifier: TrainedClassifier | None,
) -> Evaluation:
    """Measures, writes and draws; other measures of the same step are kept."""
    config = folder.config
    subject = Subject(
        trained,
        data,
        config.seed,
        config.composite,
        classifier,
        config.comparisons(),
    )
    names = config.evaluator_names()
    former = folder.load_evaluation(trained.step)
    evaluation = Evaluation(
        trained.step,
        len(data.eval_images),
        (former.results if former else {}) | evaluate(subject, names),
        config.eval_classifier or (former.classifier if former else ""),
    )
    folder.save_evaluation(evaluation)
    draw.draw_member(folder, trained, data, evaluation, names)
    return evaluation


def describe(evaluation: Evaluation, class_names: list[str]) -> list[str]:
    """Returns what was measured in a few lines."""
    lines = []
    if reason := evaluation.reason_skipped("clustering"):
        lines.append(f"not measured: {reason}")
    for code, row in evaluation.rows("clustering").items():
        lines.append(
            f"{code}: {row['accuracy']:.2%} of {evaluation.images:,} held-out images "
            f"right by one-to-one matching (purity {row['purity']:.3f}, NMI "
            f"{row['nmi']:.3f}, ARI {row['ari']:.3f})"
        )
        named = [
            f"{category} is {'no class' if label is None else class_names[label]}"
            for category, label in enumerate(row["code_to_class"])
        ]
        lines.append(f"{code}: {', '.join(named)}")
        lines += [f"warning: {code}: {text}" for text in row["warnings"]]
    for code, row in evaluation.rows("conditional_accuracy").items():
        lines.append(
            f"{code}: {row['conditional_accuracy']:.2%} of the generated images have "
            "their category's class"
        )
    if rows := evaluation.rows("fidelity"):
        made, real = rows["generated"], rows["real_reference"]
        overall = evaluation.overall("fidelity")
        lines.append(
            f"FID {made['fid']:.2f} (real images {real['fid']:.2f}), recall "
            f"{made['recall']:.2f} ({real['recall']:.2f}), {overall['images']:,} "
            f"images, features of {overall['extractor']}"
        )
    if rows := evaluation.rows("two_sample"):
        made, real = rows["generated"], rows["real_reference"]
        lines.append(
            f"a network tells {made['accuracy']:.1%} of held-out and generated images "
            f"apart ({real['accuracy']:.1%} of held-out and training images)"
        )
    for row in evaluation.rows("disentanglement").values():
        lines.append(
            f"disentanglement: FactorVAE {row['factor_vae']:.2f}, DCI "
            f"{row['dci_disentanglement']:.2f}, MIG {row['mig']:.2f}, SAP "
            f"{row['sap']:.2f}"
        )
    if found := evaluation.overall("kinds"):
        numbers = ", ".join(map(str, found["suggested"]))
        lines.append(f"kinds that neighbours suggest, by division: {numbers}")
    for name, row in evaluation.rows("code_auc").items():
        lines.append(f"{name}: AUC {row['auc']:.3f} by {row['code']}")
    for name, row in evaluation.rows("metadata").items():
        lines.append(
            f"{name}: NMI with categories {row['nmi']:.2f} (by chance "
            f"{row['nmi_by_chance']:.2f}), AUC {row['auc']:.2f} ("
            f"{row['auc_by_chance']:.2f}) for {row['value']} by {row['code']}"
        )
    return lines + [f"warning: {text}" for text in warnings(evaluation)]


def warnings(evaluation: Evaluation) -> list[str]:
    """Returns signs that something went wrong."""
    names = "label_free", "metadata"
    return [t for name in names for t in evaluation.overall(name).get("warnings", [])]


def report_classifier(run: Run, trained: TrainedClassifier, data: Data) -> list[str]:
    """Measures a classifier, draws its errors, and returns its results in lines."""
    results = classification.measure(trained, data)
    step, images = int(trained.state.step), len(data.eval_images)
    write_classification(run.evaluation, step, images, results)
    names = [f"predicted {name}" for name in data.class_names]
    table = np.asarray(results["table"])
    picture = figures.confusion(table, names, data.class_names)
    figures.save(picture, run.figures / "confusion.png")
    return [
        f"{results['accuracy']:.2%} of {images:,} held-out images right",
        f"pictures are in {run.figures}",
    ]


_COLUMNS = {  # fields of `selection.Member`, and how they are printed
    "seed": "{}",
    "score": "{:.3f}",
    "mi_real": "{:.3f}",
    "marginal_entropy": "{:.3f}",
    "consistency": "{:.3f}",
    "accuracy": "{:.4f}",
    "rank": "{}",
}


def choice_table(choice: Choice) -> list[list[str]]:
    """Returns the members as cells of text, a header first."""
    columns = [n for n in _COLUMNS if getattr(choice.members[0], n) is not None]
    cells = [
        [_COLUMNS[name].format(getattr(member, name)) for name in columns]
        for member in choice.members
    ]
    return [columns, *cells]


def summarize(fractions: Sequence[float]) -> str:
    """Returns fractions of several members, such as accuracies, in a line."""
    if len(fractions) == 1:
        return f"{fractions[0]:.2%}"
    return (
        f"median {np.median(fractions):.2%}, mean {np.mean(fractions):.2%}, worst "
        f"{min(fractions):.2%}, best {max(fractions):.2%}"
    )


def _choice_lines(choice: Choice) -> list[str]:
    header, *cells = choice_table(choice)
    lines = ["  ".join(header)]
    for row in cells:
        aligned = (c.rjust(len(name)) for c, name in zip(row, header, strict=True))
        lines.append("  ".join(aligned))
    accuracies = [m.accuracy for m in choice.members if m.accuracy is not None]
    if accuracies:
        lines.append(f"accuracy of {len(accuracies)} seeds: {summarize(accuracies)}")
    lines.append(f"chosen without labels: seed {choice.chosen}; {choice.because}")
    return lines
