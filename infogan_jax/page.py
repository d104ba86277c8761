"""report.html: what a run found, in one file that opens from disk."""

import base64
import dataclasses
import html
import io
import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from infogan_jax import workdir as runs
from infogan_jax.config import Config, UserError
from infogan_jax.evaluation import EVALUATORS, evaluator_names
from infogan_jax.latents import main_category, parse_spec
from infogan_jax.replicas import summary, table_rows
from infogan_jax.report import title_of
from infogan_jax.writers import write_atomically


class _Run(NamedTuple):
    """What a work directory holds for the page; `results` are of the chosen replica."""

    workdir: Path
    config: Config
    folders: list[Path]
    chosen: int
    results: dict


def write_page(workdir: Path, baseline: str = "") -> Path:
    """Writes report.html from what a run has saved; nothing is measured anew.

    Args:
        workdir: of a run, evaluated.
        baseline: work directory of a plain GAN that Q watches, for the figures that
            compare; empty: none.

    Returns:
        The path of the page.

    Raises:
        UserError: a directory has no evaluated run, or one of its files is damaged.
    """
    run, other, places = _read(workdir), None, f"{workdir}"
    if baseline:
        with runs.named_by("baseline", baseline) as folder:
            other = _read(folder)
        places += f" or {other.workdir}"
    with runs.reading(places):
        sections = [
            ("Result", _seeds(run)),
            ("What each category is", _categories(run)),
            ("What each code does", _codes(run, other)),
            ("The bound on I(c; G)", _bounds(run, other)),
            ("Confusions on held-out images", _confusions(run)),
            ("Classes that a code tells apart", _detected(run)),
            ("Generated pictures, measured", _generated(run)),
            ("While it trained", _picture(run, "training.gif", "The same latents.")),
            ("How to repeat it", _repeat(run)),
        ]
    body = "".join(
        f"<section><h2>{html.escape(title)}</h2>{content}</section>"
        for title, content in sections
        if content
    )
    title = f"InfoGAN on {run.config.dataset}"
    path = workdir / "report.html"
    write_atomically(path, _PAGE.format(title=html.escape(title), body=body))
    return path


def _read(workdir: Path) -> _Run:
    config, _, _ = runs.load_config(workdir)
    folders = runs.replica_folders(workdir, config)
    chosen = runs.find_replica(workdir, config, None)
    results = runs.load_evaluation(folders[chosen])
    if not results:
        raise UserError(
            f"{workdir}: is not evaluated yet; let the run come to its end, or run "
            "--mode=evaluate"
        )
    return _Run(workdir, config, folders, chosen, results)


def _seeds(run: _Run) -> str:
    alone = run.config.replicas()
    all_results = [runs.load_evaluation(folder) for folder in run.folders]
    category = main_category(parse_spec(run.config.codes))
    found = [
        results.get("clustering", {}).get(category.name) if category else None
        for results in all_results
    ]
    values = [f["accuracy"] for f in found if isinstance(f, dict)]
    text = f"{run.results['step']:,} steps of {run.config.batch_size} images. "
    if values:
        text += (
            f"Right by one-to-one matching, of {run.results['images']:,} held-out "
            f"images: <strong>{summary(values)}</strong>. Labels served for this "
            "number and the names of classes only."
        )
    if len(alone) == 1:
        return f"<p>{text}</p>"
    table = runs.load_choice(run.workdir)
    header, *rows = table_rows(table)
    marked = [row["seed"] == table["chosen"] for row in table["replicas"]]
    because = (
        f"Seed {table['chosen']} is chosen without labels: {table['because']}, which "
        "is the score. Information and balance of the categories on real images are in "
        "nats; consistency is the share that warps leave in their category."
    )
    return f"<p>{text}</p>{_table(header, rows, marked)}<p>{html.escape(because)}</p>"


def _categories(run: _Run) -> str:
    return _picture(
        run,
        "categories.png",
        "Generated: a row per category, in the order of classes; columns share all "
        "else.",
    ) + _picture(
        run,
        "members.png",
        "Real: held-out images that Q puts into each category, from the surest to the "
        "least sure.",
    )


def _codes(run: _Run, other: _Run | None) -> str:
    """The paper's Figure 2."""
    spec = parse_spec(run.config.codes)
    category = main_category(spec)
    parts, letter = [], iter("abcdefghijklmnopqrstuvwxyz")
    if category is not None:
        file = f"traverse_{category.name}.png"
        text = f"({next(letter)}) {category.name}, each column a category."
        parts.append(_picture(run, file, text))
        text = f"({next(letter)}) The same of a plain GAN, whose Q only watches."
        parts.append(
            _picture(other, file, text)
            if other
            else f"<p>{text} Not shown: train one with --info_weight=0, and name its "
            "work directory as --baseline.</p>"
        )
    for code in spec:
        if code.n_params and code is not category:
            text = f"({next(letter, '..')}) {title_of(run.results, code.name)}"
            parts.append(_picture(run, f"traverse_{code.name}.png", f"{text}."))
    pictures = f'<div class="pairs">{"".join(parts)}</div>'
    factors = run.results.get("factors", {})
    found = {code: v for code, v in factors.items() if isinstance(v, dict)}
    if not found:
        return pictures
    kinds = next(iter(found.values()))["r2"]
    rows = [[kind, *(f"{v['r2'][kind]:.2f}" for v in found.values())] for kind in kinds]
    header = ["R2", *(f"{code}: {values['name']}" for code, values in found.items())]
    text = "How far each code, from -1 to 1, determines measured properties."
    return f"{pictures}{_table(header, rows)}<p>{text}</p>"


def _bounds(run: _Run, other: _Run | None) -> str:
    """The paper's Figure 1."""
    category = main_category(parse_spec(run.config.codes))
    if category is None:
        return ""
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    curves = [
        (run, f"information/{category.name}", "I(c; G)", "tab:blue"),
        (run, f"information_real/{category.name}", "I(c; x), real images", "tab:green"),
    ]
    if other:
        name = f"information/{category.name}"
        curves.append((other, name, "I(c; G), plain GAN", "tab:orange"))
    for source, metric, label, colour in curves:
        for folder in source.folders:
            points = _history(folder, metric)
            if points:
                axes.plot(*zip(*points, strict=True), colour, lw=1, label=label)
            label = None  # one entry for all replicas
    axes.axhline(category.ceiling(), color="grey", ls="--", lw=1, label="ceiling H(c)")
    axes.set(xlabel="step", ylabel="nats", xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    # Without the date and a random id the same run gives the same page.
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue().encode()).decode()
    text = "Means over log intervals"
    text += ", a line per replica." if len(run.folders) > 1 else "."
    return _image(f"data:image/svg+xml;base64,{data}", text)


def _history(folder: Path, metric: str) -> list[tuple[int, float]]:
    """(step, value) from metrics.jsonl, where the metric is."""
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        points = [(row["step"], row[metric]) for row in rows if metric in row]
        return [(int(step), float(value)) for step, value in points]
    except (OSError, *runs.UNREADABLE) as error:
        raise UserError(f"{folder / 'metrics.jsonl'}: damaged ({error})") from None


def _confusions(run: _Run) -> str:
    """Of the chosen replica, and of the worst one."""
    category = main_category(parse_spec(run.config.codes))
    if category is None:
        return ""
    file = f"confusion_{category.name}.png"
    shown = _picture(run, file, f"Seed {run.config.seed + run.chosen}.")
    rows = runs.load_choice(run.workdir).get("replicas", [])
    accuracies = [row.get("accuracy", 1.0) for row in rows]
    worst = int(np.argmin(accuracies)) if rows else run.chosen
    if worst != run.chosen:
        text = f"Seed {run.config.seed + worst}, the worst."
        shown += _picture(run._replace(chosen=worst), file, text)
    return shown


def _detected(run: _Run) -> str:
    parts = []
    for number, (name, values) in enumerate(run.results.get("detection", {}).items()):
        if isinstance(values, dict):
            text = (
                f"{name}: AUC {values['auc']:.3f} by {values['code']}. Held-out images "
                "that it finds, misses, mistakes for the class and rejects, if as many "
                "are named as there are."
            )
            parts.append(_picture(run, f"detection_{number}.png", text))
    return "".join(parts)


def _generated(run: _Run) -> str:
    parts = []
    for code, values in run.results.get("generation", {}).items():
        if isinstance(values, dict):
            parts.append(
                f"<p>Asked is got, {html.escape(code)}: the classification network "
                f"finds what was asked for in <strong>{values['asked_is_got']:.2%}"
                f"</strong> of the pictures; {values['modes']} classes are covered.</p>"
            )
    found = run.results.get("fidelity", {})
    if "generated" in found:
        kinds = list(found["generated"])
        rows = [
            [name, *(f"{found[key][kind]:.4g}" for kind in kinds)]
            for name, key in (("generated", "generated"), ("real, the floor", "floor"))
        ]
        parts.append(
            _table(["", *kinds], rows)
            + f"<p>{found['images']:,} images of each set, features of "
            f"{html.escape(found['extractor'])}. {found['copies']:.1%} of the pictures "
            "are nearer to a training image than all but 1 % of held-out images "
            "are.</p>"
        )
    if not parts:
        return (
            "<p>Not measured: run --mode=evaluate with --classifier and "
            "--evaluators=clustering,unlabelled,factors,generation,fidelity.</p>"
        )
    return "".join(parts)


def _repeat(run: _Run) -> str:
    standard = Config()
    flags = [
        shlex.quote(f"--{name}={value}")
        for name, value in dataclasses.asdict(run.config).items()
        if value != getattr(standard, name)
    ]
    workdir = shlex.quote(f"--workdir={run.workdir}")
    commands = [["python -m infogan_jax.main", *flags, workdir]]
    later = [name for name in EVALUATORS if name in run.results]
    if set(later) - set(evaluator_names(run.config)):
        measure = ["python -m infogan_jax.main --mode=evaluate"]
        measure += [f"--evaluators={','.join(later)}", workdir]
        if judge := run.results.get("classifier"):
            measure.append(shlex.quote(f"--classifier={judge}"))
        commands.append(measure)
    text = "\n".join(" \\\n    ".join(parts) for parts in commands)
    about = runs.load_about(run.workdir)
    versions = ", ".join(f"{k} {v}" for k, v in about.get("versions", {}).items())
    devices = ", ".join(about.get("devices", []))
    lines = [f"revision {about['git']}"] if about.get("git") else []
    lines += [versions, devices]
    return f"<pre>{html.escape(text)}</pre>" + "".join(
        f"<p>{html.escape(line)}</p>" for line in lines
    )


def _table(
    header: Sequence[str], rows: Iterable[Sequence[str]], marked: Sequence[bool] = ()
) -> str:
    def line(cells, tag, kind=""):
        inside = "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells)
        return f"<tr{kind}>{inside}</tr>"

    body = "".join(
        line(row, "td", ' class="chosen"' if i < len(marked) and marked[i] else "")
        for i, row in enumerate(rows)
    )
    return f'<div class="wide"><table>{line(header, "th")}{body}</table></div>'


def _picture(run: _Run, name: str, caption: str) -> str:
    """A figure of the chosen replica; nothing where the run has none."""
    path = run.folders[run.chosen] / "figures" / name
    if not path.exists():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return _image(f"data:image/{path.suffix[1:]};base64,{data}", caption)


def _image(source: str, caption: str) -> str:
    text = html.escape(caption)
    return (
        f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption>'
        "</figure>"
    )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }}
h1 {{ font-weight: 600; }}
h2 {{ font-weight: 600; font-size: 1.2rem; margin-top: 2.5rem; }}
figure {{ margin: 1rem 0; }}
img {{ max-width: 100%; background: #fff; padding: 6px; border-radius: 4px; }}
figcaption {{ opacity: .75; font-size: .9rem; }}
.wide {{ overflow-x: auto; }}
.pairs {{ display: grid; gap: 0 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .2rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #8884; }}
th {{ font-weight: 500; opacity: .75; }}
.chosen {{ font-weight: 700; }}
pre {{ background: #8882; padding: .8rem; border-radius: 4px; overflow-x: auto; }}
</style>
<h1>{title}</h1>
{body}
</html>
"""
