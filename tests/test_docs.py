"""What the documents say is what there is: commands run, flags and files exist."""

import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from infogan_jax import main as command_line
from tests.conftest import run_program

ROOT = Path(__file__).parents[1]
SITE = sorted(
    path
    for path in ROOT.glob("docs/**/*.md")
    if not {"_build", "live", "generated"} & set(path.parts)
)
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *SITE]
# Flags of other programs: pytest, twine, git and so on
FOREIGN = {"ranges", "all", "build", "durations", "flagfile", "help", "strict"}
# So that a command takes seconds
SHORT = {
    "architecture": "mnist_tiny",
    "base_channels": 0,
    "batch_size": 16,
    "steps": 4,
    "log_every": 2,
    "checkpoint_every": 4,
    "sample_every": 2,
    "evaluators": "clustering,traversal",
    "tensorboard": False,
}
SHORT_PYTHON = {"mnist_half": "mnist_tiny", "range(300)": "range(2)"}
SHORT_PYTHON |= {"steps=300": "steps=4, batch_size=16", "[:600]": "[:64]"}


def name(path):
    return str(path.relative_to(ROOT))


def blocks(page):
    """The fenced blocks of a page, as (language, text)."""
    return re.findall(
        r"^```(\w+)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    )


def commands(page):
    """Lines of shell that start the program, as words; also those of plain blocks."""
    for text in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.M | re.S):
        for line in text.splitlines():
            if line.startswith(("infogan ", "python -m infogan_jax.main ")):
                words = shlex.split(line, comments=True)
                yield words[1:] if words[0] == "infogan" else words[3:]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_page_names_is_there(page):
    text = page.read_text()
    if page.parent.name != "results":  # which has commands of benchmarks
        for flag in set(re.findall(r"(?<![\w-])--(\w+)", text)) - FOREIGN:
            assert flag in command_line.FLAGS, flag
    for path in re.findall(r"(?:infogan_jax|experiments|tests)/[\w/]+\.\w+", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    for language, code in blocks(page):
        if language == "python":
            compile(code, name(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_commands_of_a_page_can_be_read(page):
    from absl.testing import flagsaver

    for words in commands(page):
        with flagsaver.flagsaver():
            command_line.FLAGS.unparse_flags()
            without = [word for word in words if word != "&" and ".." not in word]
            assert command_line.parse_flags(["main", *without]) == ["main"], words


def shortened(words, tmp_path):
    """A command of a tutorial as the test runs it."""
    if "--mode=serve" in words:
        return [*words, "--dry_run"]
    if not any(word.startswith("--flagfile=") for word in words):
        return words
    extra = [f"--{key}={value}" for key, value in SHORT.items()]
    if any("=malaria" in word for word in words):
        extra.append(f"--dataset=folder:{tmp_path / 'cells'}")
    return [*words, *extra]


def write_cells(folder):
    """Images of four channels, in the place of a download."""
    rng = np.random.default_rng(0)
    for label in ("parasitized", "uninfected"):
        (folder / label).mkdir(parents=True)
        for i in range(40):
            cell = np.zeros((40, 40, 4), np.uint8)
            cell[8:-8, 6:-6] = rng.integers(60, 255, (24, 28, 4))
            np.save(folder / label / f"{i}.npy", cell)


@pytest.mark.long
@pytest.mark.parametrize("tutorial", ["quickstart", "own_images", "cells", "own_loop"])
def test_a_tutorial_runs_from_top_to_bottom(tutorial, data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    write_cells(tmp_path / "cells")
    names: dict = {}
    done = 0
    for language, text in blocks(ROOT / "docs" / "tutorials" / f"{tutorial}.md"):
        if language == "python":
            for long, short in SHORT_PYTHON.items():
                text = text.replace(long, short)
            exec(text, names)
            done += 1
        for line in text.splitlines() if language == "bash" else ():
            words = shlex.split(line, comments=True)
            if words[0] == "pip":
                continue
            assert words[0] == "infogan", line
            code, _, error = run_program(*shortened(words[1:], tmp_path))
            assert code == 0, f"{line}\n{error}"
            done += 1
    assert done >= 3
    if tutorial == "quickstart":
        assert (tmp_path / "runs" / "threes.png").exists()
        assert (tmp_path / "runs" / "quickstart" / "report.html").exists()
        assert (tmp_path / "runs" / "four" / "members.json").exists()
    if tutorial == "own_images":
        rows = (tmp_path / "codes.csv").read_text().splitlines()
        assert len(rows) == 1 + 64
    if tutorial == "own_loop":
        assert [row["step"] for row in names["rows"]] == [4]


def test_the_examples_of_how_to_extend():
    """A step with all of them; G's only term is the one that looks at its images."""
    import jax

    from infogan_jax import Config, build_model, make_train_step
    from infogan_jax.build import build_networks
    from infogan_jax.core.latents import param_dim

    names: dict = {}
    for language, text in blocks(ROOT / "docs" / "how_to" / "extend.md"):
        if language == "python":
            exec(text, names)
    config, shape = Config(architecture="mnist_tiny", batch_size=16), (28, 28, 1)
    spec = names["spec"]
    networks = build_networks(config, shape, param_dim(spec))
    model = build_model(
        config,
        shape,
        spec=spec,
        gan_loss=names["cubic"],
        g_terms=names["terms"][-1:],
        networks=networks._replace(recognizer=names["Linear"](param_dim(spec))),
    )
    state = jax.jit(model.init)(jax.random.key(0))
    after, metrics = jax.jit(make_train_step(model))(state, np.zeros((16, *shape)))
    assert {"loss/brightness", "mi_bound/ends"} <= set(metrics)
    kernels = zip(
        jax.tree.leaves(state.generator.params),
        jax.tree.leaves(after.generator.params),
        strict=True,
    )
    assert any((before != now).any() for before, now in kernels)
    assert names["brightness_of"](np.full((2, 4, 4, 1), 0.25)) == 0.25


def test_messages_and_metrics_that_pages_quote_are_those_of_the_program():
    source = " ".join(path.read_text() for path in (ROOT / "infogan_jax").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # texts over several lines
    page = (ROOT / "docs" / "how_to" / "troubles.md").read_text()
    quoted = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
    assert len(quoted) >= 7
    for text in quoted:
        longest = max(re.split(r"[\d.;]+|runs/mine|seed=", text), key=len).strip()
        assert longest in source, text
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    table = page[page.index("| metric |") : page.index("## At the end")]
    for name in re.findall(r"`([\w/]+)`", table):
        if not name.startswith("eval"):
            assert name.removesuffix("CODE").rstrip("/") in source, name


def test_the_columns_of_codes_are_those_that_the_page_names():
    from infogan_jax.apps import encode

    page = (ROOT / "docs" / "reference" / "files.md").read_text()
    source = Path(encode.__file__).read_text()
    for column in ("Image", "Label", "Group", "HeldOut", "Category", "Class"):
        assert f"`Metadata_{column}`" in page and f'"{column}"' in source


@pytest.mark.long
def test_the_tutorial_of_a_cluster(data_dir, tmp_path):
    page = ROOT / "docs" / "tutorials" / "cluster.md"
    lines = [words for words in commands(page) if words[-1] == "&"]
    assert len(lines) == 2
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "infogan_jax.main"),
                *(word.replace("9876", str(port)) for word in words[:-1]),
                *(f"--{key}={value}" for key, value in SHORT.items()),
                f"--data_dir={data_dir}",
            ],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
        )
        for words in lines
    ]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    assert (tmp_path / "runs" / "two" / "report.html").exists()


def test_every_flagfile_is_in_the_reference():
    page = (ROOT / "docs/reference/flagfiles.md").read_text()
    for path in ROOT.glob("experiments/*.cfg"):
        assert f"## {path.stem}\n" in page
        assert f"{{literalinclude}} ../../experiments/{path.name}\n" in page
