"""Copies the flagfiles into the wheel; pyproject.toml describes the rest."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithFlagfiles(build_py):
    """`experiments/*.cfg` are `infogan_jax/flagfiles/*.cfg` of what is installed."""

    def run(self):
        super().run()
        if self.editable_mode:
            return  # the checkout's own are found
        folder = Path(self.build_lib, "infogan_jax", "flagfiles")
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier build
        folder.mkdir(parents=True)
        for flagfile in sorted(Path("experiments").glob("*.cfg")):
            shutil.copy(flagfile, folder)
        if not any(folder.iterdir()):
            raise FileNotFoundError("experiments/*.cfg: no flagfile to ship")


setup(cmdclass={"build_py": BuildWithFlagfiles})
