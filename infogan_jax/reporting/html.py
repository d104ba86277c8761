"""report.html: the results of a run, in one file that opens from disk."""

import base64
import dataclasses
import html
import shlex
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from infogan_jax.config import Config
from infogan_jax.core.model import InfoGAN
from infogan_jax.errors import UserError
from infogan_jax.evaluation.results import surest_first
from infogan_jax.files import write_atomically
from infogan_jax.reporting import markup
from infogan_jax.reporting.draw import title_of
from infogan_jax.reporting.kinds import draw_kinds
from infogan_jax.reporting.report import choice_table, summarize, warnings
from infogan_jax.reporting.treatments import draw_treatments
from infogan_jax.run.directory import MemberFolder, Run
from infogan_jax.run.filter import named_by
from infogan_jax.run.records import Evaluation, read_metrics
from infogan_jax.settings import EVALUATORS

_MOST_EFFECTS = 40  # rows of a table


@dataclasses.dataclass(frozen=True)
class _Page:
    """What a page shows of a run: the chosen member, and the others."""

    run: Run
    member: MemberFolder
    evaluation: Evaluation  # of the chosen member
    evaluations: list[Evaluation | None]  # of all members, in their order

    @property
    def model(self) -> InfoGAN:
        return self.run.model


def write_page(run: Run, baseline: str = "") -> Path:
    """Writes report.html from what a run has saved; nothing is measured again.

    Args:
        run: evaluated.
        baseline: work directory of a plain GAN that Q watches, for the figures that
            compare; empty: none.

    Returns:
        The path of the page.

    Raises:
        UserError: a directory has no evaluated run, or one of its files is damaged.
    """
    page, other = _read(run), None
    if baseline:
        with named_by("baseline", baseline) as folder:
            other = _read(Run.open(folder))
    animation = _picture(page.member, "training.gif", "The same latents.")
    sections = [
        ("Result", _result(page)),
        ("What each category is", _categories(page)),
        ("How many kinds there are", _kinds(page)),
        ("What each code does", _codes(page, other)),
        ("How far codes are the factors", _disentanglement(page)),
        ("The bound on I(c; G)", _bounds(page, other)),
        ("Confusions on held-out images", _confusions(page)),
        ("Classes that a code separates", _separated(page)),
        ("Treated against control", _treatments(page)),
        ("What codes tell of metadata", _metadata(page)),
        ("Generated images, measured", _generated(page)),
        ("While it trained", animation),
        ("How to repeat it", _repeat(page)),
    ]
    body = "".join(
        f"<section><h2>{html.escape(title)}</h2>{content}</section>"
        for title, content in sections
        if content
    )
    title = f"InfoGAN on {run.config.dataset}"
    write_atomically(
        run.report, markup.PAGE.format(title=html.escape(title), body=body)
    )
    return run.report


def _read(run: Run) -> _Page:
    members = run.members
    chosen = run.find_member(None)
    evaluations = [member.load_evaluation() for member in members]
    if (evaluation := evaluations[chosen]) is None:
        raise UserError(
            f"{run.path}: is not evaluated yet; let the run come to its end, or run "
            "--mode=evaluate"
        )
    return _Page(run, members[chosen], evaluation, evaluations)


def _result(page: _Page) -> str:
    category, evaluation = page.model.category, page.evaluation
    accuracies = []
    for other in page.evaluations:
        if category and other and category.name in other.rows("clustering"):
            accuracies.append(other.rows("clustering")[category.name]["accuracy"])
    text = f"{evaluation.step:,} steps of {page.run.config.batch_size} images. "
    if accuracies:
        text += (
            f"Right by one-to-one matching, of {evaluation.images:,} held-out images: "
            f"<strong>{summarize(accuracies)}</strong>. Labels served for this number "
            "and the names of classes only."
        )
    choice = page.run.load_choice()
    text += "".join(
        f"</p><p><strong>Warning: {html.escape(line)}.</strong>"
        for line in warnings(evaluation)
    )
    if choice is None or len(page.evaluations) == 1:
        return f"<p>{text}</p>"
    header, *rows = choice_table(choice)
    marked = [member.seed == choice.chosen for member in choice.members]
    because = (
        f"Seed {choice.chosen} is chosen without labels; {choice.because}. "
        "mi_real and marginal_entropy are I(c; x) and H(c) on real images, in nats; "
        "consistency is the fraction of images whose augmented copy has the same "
        "category."
    )
    table = markup.table(header, rows, marked)
    return f"<p>{text}</p>{table}<p>{html.escape(because)}</p>"


def _categories(page: _Page) -> str:
    return _picture(
        page.member,
        "categories.png",
        "Generated: a row per category, in the order of classes; columns share all "
        "else.",
    ) + _picture(
        page.member,
        "members.png",
        "Real: held-out images that Q puts into each category, from the surest to the "
        "least sure.",
    )


def _codes(page: _Page, other: _Page | None) -> str:
    """The paper's Figure 2."""
    category = page.model.category
    parts, letter = [], iter("abcdefghijklmnopqrstuvwxyz")
    if category is not None:
        file = f"traverse_{category.name}.png"
        text = f"({next(letter)}) {category.name}, each column a category."
        parts.append(_picture(page.member, file, text))
        text = f"({next(letter)}) The same of a plain GAN, whose Q only watches."
        parts.append(
            _picture(other.member, file, text)
            if other
            else f"<p>{text} Not shown: train one with --info_weight=0, and name its "
            "work directory as --baseline.</p>"
        )
    for code in page.model.spec:
        if code.n_params and code is not category:
            title = title_of(page.evaluation, code.name)
            text = f"({next(letter, '..')}) {title}."
            parts.append(_picture(page.member, f"traverse_{code.name}.png", text))
            text = f"Held-out images, from low to high values of {title}."
            parts.append(_picture(page.member, f"members_{code.name}.png", text))
    pictures = f'<div class="pairs">{"".join(parts)}</div>{_explained(page)}'
    measured = page.evaluation.rows("traversal")
    if not measured:
        return pictures
    kinds = next(iter(measured.values()))["r2"]
    rows = [
        [kind, *(f"{row['r2'].get(kind, 0):.2f}" for row in measured.values())]
        for kind in kinds
    ]
    header = ["R2", *(f"{code}: {row['name']}" for code, row in measured.items())]
    text = "How far each code, over its range, determines measured properties."
    return f"{pictures}{markup.table(header, rows)}<p>{text}</p>"


def _explained(page: _Page) -> str:
    measured = page.evaluation.rows("explained_variance")
    if not measured:
        return ""
    has_groups = any(row["low"] for row in measured.values())
    header = ["code", "explains", *(["lowest", "highest"] if has_groups else [])]
    rows = []
    for code, row in measured.items():
        ends = [", ".join(row["low"]), ", ".join(row["high"])] if has_groups else []
        rows.append([title_of(page.evaluation, code), f"{row['r2']:.1%}", *ends])
    together = page.evaluation.overall("explained_variance")["together"]
    text = (
        "How much of the difference between held-out images, pixel by pixel, each code "
        f"explains; all together {together:.1%}. What is left is noise to the codes."
    )
    if has_groups:
        text += " Groups with the lowest and the highest means, the outermost first."
    return f"{markup.table(header, rows)}<p>{text}</p>"


def _bounds(page: _Page, other: _Page | None) -> str:
    """The paper's Figure 1."""
    category = page.model.category
    if category is None:
        return ""
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    curves = [
        (page, f"mi_bound/{category.name}", "I(c; G)", "tab:blue"),
        (page, f"mi_real/{category.name}", "I(c; x), real images", "tab:green"),
    ]
    if other:
        name = f"mi_bound/{category.name}"
        curves.append((other, name, "I(c; G), plain GAN", "tab:orange"))
    for source, metric, label, colour in curves:
        for i, member in enumerate(source.run.members):
            if points := _history(member.metrics, metric):
                entry = None if i else label  # one for all members
                axes.plot(*zip(*points, strict=True), colour, lw=1, label=entry)
    upper_bound = category.upper_bound()
    axes.axhline(upper_bound, color="grey", ls="--", lw=1, label="upper bound H(c)")
    axes.set(xlabel="step", ylabel="nats", xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    text = "Means over log intervals"
    text += ", a line per member." if len(page.evaluations) > 1 else "."
    return markup.drawing(figure, text)


def _disentanglement(page: _Page) -> str:
    rows = page.evaluation.rows("disentanglement")
    if not rows:
        return ""
    table = [
        [name.replace("_", " "), f"{value:.3f}"]
        for name, value in next(iter(rows.values())).items()
    ]
    text = "Of all codes, as Q reads them from held-out images, with the true factors."
    return f"{markup.table(['measure', 'of 1'], table)}<p>{text}</p>"


def _kinds(page: _Page) -> str:
    found = page.evaluation.overall("kinds")
    if not found:
        return ""
    numbers = ", ".join(map(str, found["suggested"]))
    images = sum(community["images"] for community in found["communities"])
    text = (
        f"Communities of neighbours among {images:,} training images, merged where "
        "they share most of their links: styles of one kind share many, two kinds few. "
        "Left: where the curve falls most (dashed), kinds begin; by division into "
        f"communities, {numbers}. Right: each community, its images, and the category "
        "that Q gives to most of them."
    )
    return markup.drawing(draw_kinds(found), text)


def _history(path: Path, metric: str) -> list[tuple[int, float]]:
    """(step, value) of the rows of metrics.jsonl that have the metric."""
    rows = read_metrics(path)
    if any("step" not in row for row in rows):
        raise UserError(f"{path}: damaged (a row without its step)")
    return [(int(row["step"]), row[metric]) for row in rows if metric in row]


def _confusions(page: _Page) -> str:
    """Of the chosen member, and of the worst one."""
    category, choice = page.model.category, page.run.load_choice()
    if category is None:
        return ""
    file, chosen = f"confusion_{category.name}.png", page.member.config.seed
    shown = _picture(page.member, file, f"Seed {chosen}.")
    accuracies = (
        [1.0 if m.accuracy is None else m.accuracy for m in choice.members]
        if choice
        else [1.0]
    )
    worst = page.run.members[int(np.argmin(accuracies))]
    if worst.config.seed != chosen and min(accuracies) < 1:
        shown += _picture(worst, file, f"Seed {worst.config.seed}, the worst.")
    return shown


def _separated(page: _Page) -> str:
    parts = []
    for number, (name, row) in enumerate(page.evaluation.rows("code_auc").items()):
        text = f"{name}: AUC {row['auc']:.3f} by {row['code']}."
        caption = (
            f"{text} Held-out images; as many count as positive as there are of the "
            "class."
        )
        picture = _picture(page.member, f"code_auc_{number}.png", caption)
        parts.append(picture or f"<p>{html.escape(text)}</p>")
    return "".join(parts)


def _metadata(page: _Page) -> str:
    measured = page.evaluation.rows("metadata")
    if not measured:
        return ""
    header = ["column", "NMI", "by chance", "AUC", "by chance", "for", "by", "units"]
    rows = [
        [
            name,
            *(f"{row[k]:.2f}" for k in ("nmi", "nmi_by_chance")),
            *(f"{row[k]:.2f}" for k in ("auc", "auc_by_chance")),
            *(row["value"], row["code"], str(row["units"])),
        ]
        for name, row in measured.items()
    ]
    text = (
        "Of held-out images: NMI of the categories with the column, and AUC of the "
        "code that best tells one of its values from the others. By chance: means "
        "after the values were shuffled among that many groups, such as wells, or "
        "images. The best of many codes is above 0.5 by chance, too."
    )
    return f"{markup.table(header, rows)}<p>{text}</p>"


def _treatments(page: _Page) -> str:
    measured = page.evaluation.overall("treatments")
    if not measured:
        return ""
    titles = {name: title_of(page.evaluation, name) for name in measured["names"]}
    header = ["", "code", "effect", "95 % interval", "in sd", "p", "q"]
    header += ["plates agree", "wells", "control"]

    def shown(number: float | None, form: str = ".3g") -> str:
        return "-" if number is None else f"{number:{form}}"

    ordered = surest_first(measured["rows"])
    rows = [
        [
            f"{row['column']}, {row['value']}",
            titles[row["code"]],
            shown(row["effect"], "+.3f"),
            f"{shown(row['low'], '+.3f')} to {shown(row['high'], '+.3f')}",
            *(shown(row[name]) for name in ("in_deviations", "p", "q")),
            f"{row['plates_that_agree']} of {row['plates']}",
            *(str(row[name]) for name in ("wells", "control_wells")),
        ]
        for row in ordered[:_MOST_EFFECTS]
    ]
    marked = [bool(row["q"] is not None and row["q"] <= 0.05) for row in ordered]
    text = (
        "A well is one observation. Effect: treated less control wells of the same "
        "plate, of a category its share of cells; trend: for each step of dose. In "
        "standard deviations of the control's cells. p: by permuting wells within "
        "plates; q: the false discovery rate over all rows of a column; q up to 0.05 "
        "is bold. All cells count, for training knows no treatment."
    )
    if len(ordered) > _MOST_EFFECTS:
        text += f" The first {_MOST_EFFECTS} of {len(ordered)} rows."
    notes = "".join(f"<p>{html.escape(note)}.</p>" for note in measured["notes"])
    drawn = markup.drawing(
        draw_treatments(measured, titles),
        "A dot for each well, a colour for each plate; the line joins means.",
    )
    return f"{markup.table(header, rows, marked)}<p>{text}</p>{notes}{drawn}"


def _generated(page: _Page) -> str:
    parts = []
    for code, row in page.evaluation.rows("conditional_accuracy").items():
        parts.append(
            f"<p>Conditional accuracy, {html.escape(code)}: the classification network "
            f"finds the category's class in <strong>{row['conditional_accuracy']:.2%}"
            f"</strong> of the images; {row['modes']} classes are covered.</p>"
        )
    if rows := page.evaluation.rows("fidelity"):
        kinds, overall = list(rows["generated"]), page.evaluation.overall("fidelity")
        table = [
            [name.replace("_", " "), *(f"{row[kind]:.4g}" for kind in kinds)]
            for name, row in rows.items()
        ]
        parts.append(
            markup.table(["", *kinds], table)
            + f"<p>Whole images: {overall['images']:,} of each set, features of "
            f"{html.escape(overall['extractor'])}. "
            f"{overall['near_duplicate_rate']:.1%} of the generated images are "
            "nearer to a training image than all but 1 % of held-out images are.</p>"
        )
    if rows := page.evaluation.rows("two_sample"):
        made, real = rows["generated"], rows["real_reference"]
        parts.append(
            "<p>A network that learned to tell held-out images from generated ones is "
            f"right about <strong>{made['accuracy']:.1%}</strong> of new ones (AUC "
            f"{made['auc']:.3f}); about held-out and training images, "
            f"{real['accuracy']:.1%} ({real['auc']:.3f}). 50 % is a coin.</p>"
        )
    if rows := page.evaluation.rows("appearance"):
        kinds = list(next(iter(rows.values())))
        table = [
            [name, *(f"{row[kind]:.3g}" for kind in kinds)]
            for name, row in rows.items()
        ]
        parts.append(
            markup.table(
                ["property", *(kind.replace("_", " ") for kind in kinds)], table
            )
            + "<p>Means over real and generated images, and how far apart the two are "
            "(Wasserstein-1, in standard deviations of the real images); the reference "
            "is between two halves of the real ones.</p>"
        )
    if not parts:
        return (
            "<p>Not measured: run --mode=evaluate with --eval_classifier and "
            "--evaluators=clustering,label_free,traversal,conditional_accuracy,"
            "fidelity.</p>"
        )
    return "".join(parts)


def _repeat(page: _Page) -> str:
    standard, config = Config(), page.run.config
    flags = [
        shlex.quote(f"--{name}={value}")
        for name, value in dataclasses.asdict(config).items()
        if value != getattr(standard, name)
    ]
    workdir = shlex.quote(f"--workdir={page.run.path}")
    commands = [["python -m infogan_jax.main", *flags, workdir]]
    measured = [name for name in EVALUATORS if name in page.evaluation.results]
    if set(measured) - set(config.evaluator_names()):
        command = ["python -m infogan_jax.main --mode=evaluate"]
        command += [f"--evaluators={','.join(measured)}", workdir]
        if classifier := page.evaluation.classifier:
            command.append(shlex.quote(f"--eval_classifier={classifier}"))
        commands.append(command)
    text = "\n".join(" \\\n    ".join(parts) for parts in commands)
    info = page.run.info
    versions = ", ".join(f"{k} {v}" for k, v in info.versions.items())
    lines = [f"revision {info.git}"] if info.git else []
    lines += [versions, ", ".join(info.devices)]
    return f"<pre>{html.escape(text)}</pre>" + "".join(
        f"<p>{html.escape(line)}</p>" for line in lines
    )


def _picture(member: MemberFolder, name: str, caption: str) -> str:
    """A figure of a member; nothing if it has none of that name."""
    path = member.figures / name
    if not path.exists():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return markup.image(f"data:image/{path.suffix[1:]};base64,{data}", caption)
