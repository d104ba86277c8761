"""Rules that hold for the whole tree."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from infogan_jax import Config, build_classifier, build_model, make_train_step
from infogan_jax import main as command_line
from infogan_jax.core.classifier import make_classifier_step
from infogan_jax.data import DATASETS
from infogan_jax.settings import EVALUATORS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "infogan_jax"
README = (ROOT / "README.md").read_text()
FILES = sorted(PACKAGE.rglob("*.py"))
ALLOWED = {"flax", "jax", "optax"} | set(sys.stdlib_module_names) - {"os", "time"}
# From the ground up: a module imports from its own floor and from lower ones only.
FLOORS = [
    {
        "compiling",
        "console",
        "core",
        "cores",
        "errors",
        "fields",
        "files",
        "former",
        "kept",
    },
    {"settings"},
    {"config"},
    {"build", "inference", "pixels"},
    {"data", "distributed"},
    {"evaluation"},
    {"run"},
    {"reporting"},
    {"apps", "training"},
    {"environment", "flags", "main", "__init__"},
]
LONGEST_FUNCTION, LONGEST_MODULE, MOST_IMPORTS = 80, 450, 10


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(name):
    """The module or folder of infogan_jax that an import or a path is of."""
    return name.removeprefix("infogan_jax.").split(".")[0]


def test_the_core_imports_jax_flax_and_optax_only():
    for path in sorted(PACKAGE.glob("core/**/*.py")):
        for name in imports(path):
            is_core = name.startswith("infogan_jax.core.")
            assert is_core or name.split(".")[0] in ALLOWED, f"{path} imports {name}"


def test_imports_run_down():
    floor = {name: i for i, names in enumerate(FLOORS) for name in names}
    for path in FILES:
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imports(path):
            if name.startswith("infogan_jax."):
                assert floor[room(name)] <= floor[own], f"{path} imports {name}"


def test_orbax_and_devices_have_one_place_each():
    for path in FILES:
        names = list(imports(path))
        if path.name != "checkpoints.py":
            assert not any(name.startswith("orbax") for name in names), path
        if path.name != "devices.py":
            assert not any(name.startswith("jax.sharding") for name in names), path


def test_no_function_and_no_module_is_long():
    for path in FILES:
        text = path.read_text()
        assert text.count("\n") <= LONGEST_MODULE, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = node.end_lineno - node.lineno + 1
                assert length <= LONGEST_FUNCTION, f"{path}: {node.name} {length}"


def test_the_loop_and_its_collaborators_know_few_modules():
    for path in (PACKAGE / "training").glob("*.py"):
        ours = {n.rpartition(".")[0] for n in imports(path) if "infogan_jax" in n}
        if path.name != "runs.py":  # which wires everything
            assert len(ours) <= MOST_IMPORTS, ours


def test_importing_changes_no_logger_warning_or_flag_of_the_host():
    """Every module, in a process that has configured all three."""
    program = """
import importlib, logging, pathlib, signal, sys, warnings
import jax, absl.flags, tensorflow_datasets, orbax.checkpoint, matplotlib
from jax._src import config as _
def state():
    loggers = {n: x.level for n, x in logging.root.manager.loggerDict.items()
               if isinstance(x, logging.Logger)}
    flags = {n: jax.config.values[n] for n in jax.config.values}
    return loggers, list(warnings.filters), flags, signal.getsignal(signal.SIGINT)
def importable():
    root = pathlib.Path(sys.argv[1])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        if "explorer" not in parts:
            yield ".".join(p for p in parts if p != "__init__")
for extra in ("sklearn", "skimage", "scipy.stats", "networkx", "tifffile"):
    importlib.import_module(extra)
for extra in ("sklearn.neighbors", "skimage.transform", "tensorboardX", "msgspec"):
    importlib.import_module(extra)
before = state()
for name in importable():
    importlib.import_module(name)
after = state()
for name, level in before[0].items():
    assert after[0][name] == level, name
assert after[1] == before[1], set(map(str, after[1])) ^ set(map(str, before[1]))
assert after[2:] == before[2:]
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(PACKAGE)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "flagfile", sorted(ROOT.glob("experiments/*.cfg")), ids=lambda p: p.name
)
def test_every_flagfile_builds(flagfile):
    from absl import flags
    from absl.testing import flagsaver

    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        flags.FLAGS(["main", f"--flagfile={flagfile}"])
        config = command_line.config_from_flags()
        mode = flags.FLAGS.mode
    side = config.image_size or 28
    channels = {"malaria": 3, "malaria_two_channel": 2, "malaria_four_channel": 4}
    shape = (side, side, channels.get(config.dataset, 1))
    images = jax.ShapeDtypeStruct((config.batch_size, *shape), jax.numpy.uint8)
    is_classifier = flagfile.stem == "classifier"
    assert mode == ("train_classifier" if is_classifier else "train")
    if is_classifier:
        model = build_classifier(config, shape, 10)
        labels = jax.ShapeDtypeStruct((config.batch_size,), jax.numpy.int32)
        state = jax.eval_shape(model.init, jax.random.key(0))
        step = make_classifier_step(model)
        after, _ = jax.eval_shape(step, state, (images, labels))
    else:
        model = build_model(config, shape)
        state = jax.eval_shape(model.init, jax.random.key(0))
        after, _ = jax.eval_shape(make_train_step(model), state, images)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_every_setting_is_a_flag_with_a_help_text():
    import dataclasses

    for field in dataclasses.fields(Config):
        assert field.metadata["help"].endswith("."), field.name
        assert command_line.FLAGS[field.name].default == field.default


@pytest.mark.parametrize(
    ("name", "table"), [("dataset", DATASETS), ("evaluators", EVALUATORS)]
)
def test_help_names_what_there_is(name, table):
    """Of tables that are too slow to import for it; the others are written from it."""
    text = command_line.FLAGS[name].help
    assert set(table) <= set(re.findall(r"\w+", text))


@pytest.mark.long
def test_the_research_example_learns_its_code(data_dir, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    from experiments import research_step

    picture = tmp_path / "code.png"
    assert research_step.main(60, picture) > research_step.main(1, picture)
    assert picture.exists()


def test_benchmarks_are_started_with_flags_that_they_have():
    folder = ROOT / "experiments" / "benchmarks"
    tables = [
        ast.literal_eval(node.value)
        for node in ast.parse((folder / "__main__.py").read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
    ]
    assert [set(table) >= {"step", "seeds", "scaling"} for table in tables] == [
        True
    ] * 2
    for name, arguments in [item for table in tables for item in table.items()]:
        defined = re.findall(
            r'DEFINE_\w+\(\s*"(\w+)"', (folder / f"{name}.py").read_text()
        )
        for argument in arguments:
            if argument.startswith("--flagfile="):
                continue  # the project's own
            assert argument.removeprefix("--").partition("=")[0] in defined, name


def test_sets_of_uneven_digits():
    from experiments.uneven_digits import draw, frequencies

    labels = np.arange(60_000) % 10
    for name, ratio in (("tail10", 10), ("tail50", 50), ("even", 1)):
        wanted = frequencies(name)
        assert wanted.sum() == pytest.approx(1)
        assert wanted.max() / wanted.min() == pytest.approx(ratio)
        found = np.bincount(labels[draw(labels, wanted, 10_000, 0)], minlength=10)
        np.testing.assert_allclose(found / 10_000, wanted, atol=1e-4)
    first, again, other = map(frequencies, ("random0", "random0", "random1"))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_training_needs_no_tensorflow(data_dir):
    from infogan_jax.data import load

    load(Config(data_dir=str(data_dir)))
    assert "tensorflow" not in sys.modules


def test_the_example_of_the_readme(data_dir, monkeypatch):
    """With smaller networks, to be quick."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert code.count("Config(augment") == 1
    code = code.replace("Config(augment", 'Config(architecture="mnist_tiny", augment')
    told: dict = {}
    exec(code, told)
    assert told["pictures"].shape == (8, 28, 28, 1)
    assert told["pictures"].min() >= 0 and told["pictures"].max() <= 1
    assert int(told["state"].step) == 1
