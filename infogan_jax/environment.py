"""What surrounds a process: variables, devices, and the cache of compiled programs."""

import os
from pathlib import Path

from infogan_jax.errors import UserError, first_line
from infogan_jax.files import cache_folder

# Variables of jax under which programs fail: name, what is harmless, and what is wrong.
_JAX_SETTINGS = (
    ("JAX_DISABLE_JIT", ("0", "false"), "runs are compiled"),
    ("JAX_NUMPY_DTYPE_PROMOTION", ("standard",), "types are promoted as in NumPy"),
    ("JAX_NUMPY_RANK_PROMOTION", ("allow", "warn"), "shapes are broadcast as in NumPy"),
    ("JAX_TRANSFER_GUARD", ("allow", "log"), "images are sent to devices as needed"),
)


def check_environment(workdir: Path) -> None:
    """Raises UserError for what would fail late, or far from its cause."""
    # Figures go to files; a notebook's variable may name what is not installed here.
    os.environ["MPLBACKEND"] = "agg"
    try:
        str(workdir.absolute()).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"--workdir={workdir}: a name that is not UTF-8, which checkpoints cannot "
            "have; choose another folder"
        ) from None
    for name, value, cure in _JAX_SETTINGS:
        found = os.environ.get(name)
        if found and found.lower() not in value:
            raise UserError(f"{name}={found}: {cure}; unset it")


def check_devices() -> None:
    """Raises UserError unless jax finds the devices that it is told to use."""
    import jax

    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        platforms = os.environ.get("JAX_PLATFORMS", "")
        raise UserError(
            f"JAX_PLATFORMS={platforms}: jax finds no such device "
            f"({first_line(error)}); unset it, or install jax for that hardware"
        ) from None


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk for the next start."""
    import jax

    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
        # Many small programs take as long as one large one.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
