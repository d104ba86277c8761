"""What tests share: four virtual devices, a small config, small data, one command."""

import contextlib
import functools
import gzip
import io
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jaxlib
import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings

# The same examples each time; `--hypothesis-profile=bulk` draws many more
settings.register_profile("default", max_examples=15, deadline=None, derandomize=True)
settings.register_profile("bulk", max_examples=1000, deadline=None)
settings.load_profile("default")

jax.config.update("jax_num_cpu_devices", 4)

# Programs are compiled in half the time, and are slower, which small ones do not show;
# here, and in what is started from here, but for `trained`
jax.config.update("jax_disable_most_optimizations", True)
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# This XLA emits fusions by way of MLIR, which takes half of the compiler's time; later
# ones have no other way
XLA_FLAGS = os.environ.get("XLA_FLAGS", "")
FUSION_EMITTERS = {}  # option that brings them back, for what is equal only with them
if jaxlib.version.__version_info__ < (0, 11):
    XLA_FLAGS += " --xla_cpu_use_fusion_emitters=false"
    FUSION_EMITTERS["xla_cpu_use_fusion_emitters"] = True
os.environ["XLA_FLAGS"] = XLA_FLAGS


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="the tests marked long, too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--all"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="long; run by --all"))


def pytest_configure(config):
    """Programs are compiled once for all tests, their processes and the next time."""
    for name, value in {
        "jax_compilation_cache_dir": str(config.cache.mkdir("jax")),
        "jax_persistent_cache_min_compile_time_secs": 0.2,
    }.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


# A folder with tfds/, mnist/ and malaria_slides.csv.gz, for tests on real images
REAL_DATA = Path(os.environ.get("REAL_DATA") or "real_data_is_not_named")

TINY = {
    "architecture": "mnist_tiny",
    "augment": "digits",
    "real_mi_weight": 1.0,
    "entropy_weight": 4.0,
    "equivariance_weight": 0.2,
    "batch_size": 16,
    "steps": 10,
    "log_every": 5,
    "checkpoint_every": 5,
    "sample_every": 5,
    "tensorboard": False,
}


@pytest.fixture(scope="session")
def config():
    from infogan_jax import Config

    return Config(**TINY)


@pytest.fixture(scope="session")
def images():
    """uint8 noise, `[64, 28, 28, 1]`."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (64, 28, 28, 1), dtype=np.uint8)


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id):
    """`once(name, make)`: a copy of the folder that one test process makes for all."""

    def copy_of(name, make):
        root = tmp_path_factory.getbasetemp()
        shared = (root if worker_id == "master" else root.parent) / f"shared_{name}"
        with FileLock(f"{shared}.lock"):
            if not shared.exists():
                made = shared.with_name(f"{shared.name}_part")
                make(made)
                made.rename(shared)
        return Path(shutil.copytree(shared, tmp_path_factory.mktemp(name) / name))

    return copy_of


@pytest.fixture(scope="session")
def data_dir(once):
    """A folder where mnist_5k is prepared."""
    from infogan_jax import Config
    from infogan_jax.data import load  # here, for its packages define flags

    def prepare(folder):
        load(Config(data_dir=str(folder)))

    folder = once("tfds", prepare)
    prepare(folder)  # what is prepared is left alone; its packages define their flags
    return folder


@pytest.fixture(scope="session")
def trained(once, data_dir):
    """A finished run of ten steps, by a flagfile, as a user's: with all optimisations.

    But in a process of eight devices. -> its folder, and what it printed
    """

    def train(folder):
        folder.mkdir()
        flags = [f"--{k}={v}" for k, v in TINY.items() if k != "tensorboard"]
        (folder / "run.cfg").write_text("# a comment\n" + "\n".join(flags))
        command = [sys.executable, "-m", "infogan_jax.main"]
        command += [f"--flagfile={folder / 'run.cfg'}", f"--data_dir={data_dir}"]
        environment = {
            **os.environ,
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",
            "XLA_FLAGS": f"{XLA_FLAGS} --xla_force_host_platform_device_count=8",
        }
        done = subprocess.run(
            [*command, f"--workdir={folder / 'run'}"],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        (folder / "stdout").write_text(done.stdout)

    folder = once("trained", train)
    about = json.loads((folder / "run" / "config.json").read_text())
    assert len(about["devices"]) == 8
    return folder / "run", (folder / "stdout").read_text()


def run_program(*arguments: str) -> tuple[int, str, str]:
    """The program on a command line, in this process -> exit code, output, error."""
    from absl import flags
    from absl.testing import flagsaver

    from infogan_jax import main

    out, error = io.StringIO(), io.StringIO()
    logger = logging.getLogger("infogan_jax")
    with (
        flagsaver.flagsaver(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
    ):
        flags.FLAGS.unparse_flags()
        try:
            main.main(main.parse_flags(["main", *arguments]))
            code = 0
        except SystemExit as end:
            code = end.code
        finally:
            flags.FLAGS.mark_as_parsed()  # as packages of the data expect
            logger.handlers, logger.propagate = [], True
            logger.setLevel(logging.NOTSET)
    return code, out.getvalue(), error.getvalue()


@pytest.fixture
def command(data_dir):
    """`run_program`, with data that are prepared."""
    return functools.partial(run_program, f"--data_dir={data_dir}")


@pytest.fixture
def logged(caplog):
    """Returns what the package has logged since the last call, and forgets it."""
    caplog.set_level(logging.INFO, "infogan_jax")

    def take() -> str:
        records = [r for r in caplog.records if r.name.startswith("infogan_jax")]
        caplog.clear()
        return "\n".join(f"{r.levelname}: {r.getMessage()}" for r in records)

    return take


@pytest.fixture
def tiny_flags():
    return [f"--{name}={value}" for name, value in TINY.items()]


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(header + array.astype(np.uint8).tobytes())


def run_in(path: Path, config, image_shape=(28, 28, 1), class_names=(), **about):
    """A `Run` that was never opened: no config.json is written."""
    from infogan_jax.run.directory import Run
    from infogan_jax.run.records import INFOGAN, RunInfo

    path.mkdir(parents=True, exist_ok=True)
    info = RunInfo(INFOGAN, config, image_shape, list(class_names), **about)
    return Run(path, info)


EXPLORER = Path(__file__).parents[1] / "infogan_jax" / "explorer"


def run_in_browser(spec: str, url: str, folder: Path) -> None:
    """A file of `explorer/e2e` on a page that is served; skips without a browser."""
    browser = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    for what, is_here in (
        ("Node.js", shutil.which("npx")),
        (f"Chromium as {browser}, or named by CHROMIUM", Path(browser).exists()),
        ("npm ci in infogan_jax/explorer", (EXPLORER / "node_modules").exists()),
    ):
        if not is_here:
            pytest.skip(f"needs {what}")
    done = subprocess.run(
        ["npx", "--no-install", "playwright", "test", spec],
        cwd=EXPLORER,
        env={**os.environ, "URL": url, "FOLDER": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def longest_file(size: int):
    """As if a disk were full for what is longer, in bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def flip(path: Path) -> None:
    """One bit of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def pixels_by_name(images):
    """What `read_foreign` yields: name -> pixels, or why there are none."""
    return {image.name: image.pixels for image in images}


def cut(path: Path) -> None:
    """A file to half its length."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.fixture(scope="session")
def classifier(tmp_path_factory, data_dir):
    """A classification network after ten steps, in a process of its own."""
    workdir = tmp_path_factory.mktemp("classifier") / "run"
    command = [sys.executable, "-m", "infogan_jax.main", "--mode=train_classifier"]
    command += [f"--workdir={workdir}", f"--data_dir={data_dir}", "--notensorboard"]
    command += ["--steps=60", "--log_every=20", "--d_learning_rate=2e-3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return workdir, done.stdout
