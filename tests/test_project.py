"""Rules that hold for the whole tree."""

import ast
import re
import sys
from pathlib import Path

import jax
import pytest

from infogan_jax import Config, init_state, make_train_step
from infogan_jax import main as command_line
from infogan_jax.classifier import init_classifier, make_classifier_step
from infogan_jax.data import DATASETS
from infogan_jax.evaluation import EVALUATORS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "infogan_jax"
README = (ROOT / "README.md").read_text()
CORE = ["latents.py", "losses.py", "augment.py", "state.py", "steps.py"]
CORE_FILES = [PACKAGE / name for name in CORE] + sorted(PACKAGE.glob("models/*.py"))
CORE_MODULES = {"augment", "latents", "losses", "models", "state", "steps"}
ALLOWED = {"flax", "jax", "optax"} | set(sys.stdlib_module_names) - {"os", "time"}
LEAVES = {"checkpoints", "data", "evaluation", "figures", "writers"}
KNOWS_LEAVES = {
    "export",
    "filtering",
    "main",
    "page",
    "recognition",
    "regroup",
    "replicas",
    "report",
    "sampling",
    "training",
    "workdir",
} | LEAVES


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda p: p.name)
def test_the_core_imports_jax_flax_and_optax_only(path):
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "infogan_jax":
            assert rest[0] in CORE_MODULES, f"{path.name} imports {name}"
        else:
            assert top in ALLOWED, f"{path.name} imports {name}"


def test_orbax_and_devices_have_one_place_each():
    for path in PACKAGE.rglob("*.py"):
        names = list(imports(path))
        if path.name != "checkpoints.py":
            assert not any(name.startswith("orbax") for name in names), path
        if path.name != "parallel.py":
            assert not any(name.startswith("jax.sharding") for name in names), path
        module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if module not in KNOWS_LEAVES | {"__init__"}:
            used = {n.split(".")[1] for n in names if n.startswith("infogan_jax.")}
            assert not used & LEAVES, f"{path} imports {used & LEAVES}"


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
    assert mode == ("classify" if flagfile.stem == "classifier" else "train")
    if mode == "classify":
        init, step = init_classifier, make_classifier_step(config, 10)
        labels = jax.ShapeDtypeStruct((config.batch_size,), jax.numpy.int32)
        state = jax.eval_shape(lambda: init(jax.random.key(0), config, shape, 10))
        after, _ = jax.eval_shape(step, state, (images, labels))
    else:
        state = jax.eval_shape(lambda: init_state(jax.random.key(0), config, shape))
        after, _ = jax.eval_shape(make_train_step(config, shape), state, images)
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


def test_the_research_example_learns_its_code(data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    sys.path.insert(0, str(ROOT / "experiments"))
    import research_step

    assert research_step.main(60) > research_step.main(1)


def test_training_needs_no_tensorflow(data_dir):
    from infogan_jax.data import load

    load(Config(data_dir=str(data_dir)))
    assert "tensorflow" not in sys.modules


def test_the_example_of_the_readme(data_dir, monkeypatch):
    """With smaller networks, to be quick."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert code.count("Config(warp") == 1
    code = code.replace("Config(warp", 'Config(architecture="mnist_tiny", warp')
    told: dict = {}
    exec(code, told)
    assert told["pictures"].shape == (8, 28, 28, 1)
    assert told["pictures"].min() >= 0 and told["pictures"].max() <= 1
    assert int(told["state"].step) == 1


def test_the_readme_shows_what_is_there():
    for name in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"experiments/[\w/]+\.(?:cfg|py)", README):
        assert (ROOT / name).exists(), name
    for flag in set(re.findall(r"--(\w+)", README)) - {"flagfile", "help"}:
        assert flag in command_line.FLAGS, flag
