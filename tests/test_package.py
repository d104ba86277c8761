"""What is built and installed is whole."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import infogan_jax
from infogan_jax.flags import find_flagfile, shipped_flagfiles

ROOT = Path(__file__).parents[1]


def run(*words, **options):
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "build", f"--outdir={folder}", str(ROOT))
    return folder


@pytest.mark.long
def test_the_wheel_is_whole_and_works_outside_the_checkout(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    run("-m", "twine", "check", "--strict", *map(str, built.iterdir()))
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {Path(name).stem for name in names if name.endswith(".cfg")}
    assert shipped == {path.stem for path in ROOT.glob("experiments/*.cfg")}
    assert sum(name.endswith("index.html") for name in names) == 1
    assert "infogan_jax/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "experiments"))]
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as sources_file:
        sources = sources_file.getnames()
    assert any(name.endswith("experiments/quickstart.cfg") for name in sources)
    target = tmp_path / "installed"
    run(
        "-m", "pip", "install", "--quiet", "--no-deps", f"--target={target}", str(wheel)
    )
    outside = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(target)}}
    used = run("-c", "import infogan_jax; print(infogan_jax.__file__)", **outside)
    assert Path(used.strip()).is_relative_to(target)
    said = run(
        *("-m", "infogan_jax.main", "--flagfile=quickstart", "--dry_run"), **outside
    )
    assert "train in runs/quickstart" in said
    assert '"dataset": "mnist_5k"' in said


def test_flagfiles_are_found_by_name(tmp_path, monkeypatch):
    assert find_flagfile("quickstart").name == "quickstart.cfg"
    assert find_flagfile("quickstart.cfg") == find_flagfile("quickstart")
    monkeypatch.chdir(tmp_path)
    Path("quickstart").write_text("--steps=1\n")  # a file of one's own comes first
    assert find_flagfile("quickstart") == Path("quickstart")
    assert len(shipped_flagfiles()) >= 11


def test_versions_agree():
    cited = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {infogan_jax.__version__}\n" in cited
    assert infogan_jax.__version__ in (ROOT / "CHANGELOG.md").read_text()
