"""The command line: `python -m infogan_jax.main --flagfile=experiments/mnist.cfg`.

Flags become a `Config`, and a mode becomes one call. What is slow to import is imported
by the mode that needs it, so that --help answers at once.
"""

import contextlib
import dataclasses
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

# Ctrl-C while importing ends the program without a traceback; an ignored one stays so.
if __name__ == "__main__" and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    import jax.errors  # noqa: F401  reads all variables of jax
    from absl import app
except ModuleNotFoundError:
    sys.exit(
        "infogan_jax: the command line needs more packages than the step functions; "
        "install them by pip install 'infogan_jax[run]'"
    )
except ValueError as error:
    if "JAX flag" not in str(error):
        raise
    sys.exit(f"infogan_jax: {error}; unset the variable of that name, in capitals")

from infogan_jax import console, flags, former
from infogan_jax.config import Config, absolute_path
from infogan_jax.environment import (
    check_devices,
    check_environment,
    use_compilation_cache,
)
from infogan_jax.errors import (
    OUT_OF_MEMORY,
    UserError,
    check_one_of,
    expand_path,
    first_line,
)
from infogan_jax.flags import FLAGS, config_from_flags

if TYPE_CHECKING:
    from infogan_jax.run.directory import Run

_TRAINING = "train", "train_classifier"
_SHOWING = "sample", "encode", "edit", "export", "serve"
_USED_BY = {  # flags that other modes do not use
    "fix": ("sample", "edit"),
    **dict.fromkeys(("num_samples", "latents_file"), ("sample",)),
    "images": ("cells", "edit"),
    "keep_residual": ("edit",),
    "input_dir": ("encode",),
    "member": _SHOWING,
    "output": (*_SHOWING, "cells"),
    **dict.fromkeys(("masks", "mask_suffix", "window", "surroundings"), ("cells",)),
    "weights": ("export", "serve"),
    **dict.fromkeys(("host", "port", "open_browser"), ("serve",)),
    "restart": _TRAINING,
}
# Fields of a config that are asked for apart from the run's: the seed of what images do
# not fix, the table of other images
_OF_OTHERS = {"seed": ("sample",), "metadata": ("encode", "edit")}
_NAMING_IMAGES = "images", "masks", "input_dir"
_ABORTED = "stopped at once; the last checkpoint is kept"
# Loggers silenced here: start-up noise, and errors that are also raised as exceptions.
_NOISY = {
    "absl": logging.CRITICAL,
    "asyncio": logging.CRITICAL,
    "jax._src.distributed": logging.WARNING,
    "jax._src.xla_bridge": logging.WARNING,
    "matplotlib": logging.WARNING,
    "orbax": logging.CRITICAL,
    "tifffile": logging.CRITICAL,
}


class _Console(logging.Handler):
    """Prints what the package logs."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = "warning: " if record.levelno >= logging.WARNING else ""
        console.show(kind + record.getMessage())


def _set_loggers() -> None:
    ours = logging.getLogger("infogan_jax")
    ours.setLevel(logging.INFO)
    ours.handlers, ours.propagate = [_Console()], False
    for name, level in _NOISY.items():
        logging.getLogger(name).setLevel(level)


def main(argv: list[str]) -> None:
    """Runs one mode; ends the process with one line for whatever a user can mend."""
    _set_loggers()
    sys.unraisablehook = _report_unraisable
    try:
        _check_flags(argv)
        if FLAGS.coordinator_address:
            _join()
        _note_unused_flags()
        workdir = expand_path("workdir", FLAGS.workdir)
        check_environment(workdir)
        MODES[FLAGS.mode](workdir)
    except UserError as error:
        _fail(str(error), 2)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and OUT_OF_MEMORY not in str(error):
            raise
        _fail(
            f"no memory left ({first_line(error)}); a smaller --batch_size, "
            "--base_channels or --image_size, or fewer --num_seeds need less; all that "
            "was saved before is kept",
            1,
        )
    except OSError as error:
        # The error of a file that was open already does not name it.
        is_open = error.errno is not None and error.filename is None
        is_training = FLAGS.mode in _TRAINING
        place = f"--workdir={FLAGS.workdir}: " if is_open and is_training else ""
        _fail(f"{place}{error}; all that was saved before is kept", 1)


def _check_flags(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"{argv[1]}: expected flags only, such as --workdir=FOLDER")
    if (today := former.MODES.get(FLAGS.mode)) is not None:
        raise UserError(f"--mode={FLAGS.mode}: is now --mode={today}")
    check_one_of("mode", FLAGS.mode, MODES)
    for name, flag in FLAGS.flag_values_dict().items():
        values = flag if isinstance(flag, list) else [flag]
        if any("\0" in str(value) for value in values):
            raise UserError(f"--{name}={flag}: holds a zero byte; leave it out")
    if FLAGS.mode not in ("prepare", "cells") and not FLAGS.workdir:
        raise UserError(
            "--workdir: expected the folder of the run, or --flagfile=NAME, for which "
            "it is runs/NAME"
        )
    is_alone = FLAGS.num_processes == 1 and FLAGS.process_id == 0
    if not FLAGS.coordinator_address and not is_alone:
        raise UserError(
            f"--num_processes={FLAGS.num_processes}, --process_id={FLAGS.process_id}: "
            "expected 1 and 0 without --coordinator_address=HOST:PORT"
        )


def _note_unused_flags() -> None:
    """Names the flags that the mode does not use.

    Raises:
        UserError: one of them names images, so that others would be used instead.
    """
    for name, modes in _USED_BY.items():
        if not FLAGS[name].present or FLAGS.mode in modes:
            continue
        if name in _NAMING_IMAGES:
            raise UserError(
                f"--{name}: is for --mode={modes[0]}; a run's images are those of "
                "--dataset=folder:PATH"
            )
        console.show(f"note: --{name} is not used by --mode={FLAGS.mode}")


def _is_dry(workdir: Path, config: Config) -> bool:
    """Whether to do nothing, after printing what would run."""
    if FLAGS.dry_run:
        console.show(f"{FLAGS.mode} in {workdir}\n{config.to_json()}")
    return FLAGS.dry_run


def _train(workdir: Path) -> None:
    config = config_from_flags()
    for name in config.without_effect():
        value = getattr(config, name)
        console.show(f"note: --{name}={value} has no effect in this run")
    if _is_dry(workdir, config):
        return
    use_compilation_cache()
    import jax

    from infogan_jax.distributed import processes
    from infogan_jax.distributed.devices import give_members_cores
    from infogan_jax.training.divergence import Diverged
    from infogan_jax.training.interrupt import Stopped
    from infogan_jax.training.runs import train, train_classifier

    if config.num_seeds > 1 and not FLAGS.coordinator_address:
        give_members_cores(config.num_seeds)
    check_devices()
    try:
        run = train if FLAGS.mode == "train" else train_classifier
        run(config, workdir, FLAGS.restart)
    except Stopped as stopped:
        _fail(str(stopped), stopped.exit_code)
    except Diverged as diverged:
        _fail(str(diverged), 1)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        is_ours = not processes.is_caused_by_another(error)
        if not FLAGS.coordinator_address or is_ours:
            raise
        _fail(
            f"another process ended or cannot be reached ({first_line(error)}); start "
            "all of them again, and they continue from the last checkpoint",
            1,
        )


def _prepare(workdir: Path) -> None:
    config = config_from_flags()
    if _is_dry(workdir, config):
        return
    from infogan_jax.data import prepare

    console.show(f"{config.dataset} is prepared in {prepare(config)}")


def _cells(workdir: Path) -> None:
    if not FLAGS.output:
        raise UserError("--output: expected the name of a folder for the cells")
    config = config_from_flags()
    if _is_dry(workdir, config):
        return
    from infogan_jax.apps.cells import Request, cut_cells

    given = {name: str(FLAGS[name].value) for name in Request._fields}
    cut_cells(config, Request(**given), expand_path("output", FLAGS.output))


def _evaluate(run: "Run") -> None:
    from infogan_jax.data import fingerprint, load
    from infogan_jax.distributed.devices import max_resident_bytes
    from infogan_jax.inference import Trained
    from infogan_jax.reporting.html import write_page
    from infogan_jax.reporting.report import report_run
    from infogan_jax.run.dataset import check_measurable, load_eval_classifier
    from infogan_jax.run.filter import apply_filter
    from infogan_jax.run.lock import Lock

    config = run.config
    with Lock() as lock:
        lock.take(run.path)
        data, _ = apply_filter(config, load(config, max_bytes=max_resident_bytes()))
        if not config.filter_classifier:  # its probabilities differ by device
            run.check_data(fingerprint(data))
        classifier = load_eval_classifier(config, data)
        check_measurable(config, run.model, data, classifier)
        trained = [Trained(run.model, state) for state in run.load_states()]
        report_run(run, trained, data, classifier)
        console.show(f"the report is {write_page(run, config.baseline)}")


def _report(run: "Run") -> None:
    from infogan_jax.reporting.html import write_page

    console.show(f"the report is {write_page(run, run.config.baseline)}")


def _sample(run: "Run") -> None:
    from infogan_jax.apps.sample import Request, sample

    request = Request(
        ",".join(FLAGS.fix), FLAGS.num_samples, FLAGS.seed, FLAGS.latents_file
    )
    sample(run, request, _output(run, "generated.png"), FLAGS.member)


def _encode(run: "Run") -> None:
    from infogan_jax.apps.encode import encode_folder

    output = _output(run, "codes.csv")
    encode_folder(run, FLAGS.input_dir, output, FLAGS.member, _other_table())


def _edit(run: "Run") -> None:
    from infogan_jax.apps.edit import edit_folder

    edit_folder(
        run,
        FLAGS.images,
        ",".join(FLAGS.fix),
        _output(run, "edited"),
        FLAGS.member,
        FLAGS.keep_residual,
        _other_table(),
    )


def _other_table() -> str | None:
    """The table of other images than the run's, if one is given."""
    return FLAGS.metadata if FLAGS["metadata"].present else None


def _export(run: "Run") -> None:
    from infogan_jax.apps.export import export

    export(run, _export_folder(run), FLAGS.member, FLAGS.weights)


def _serve(run: "Run") -> None:
    from infogan_jax.apps.export import export, is_current
    from infogan_jax.apps.serve import check_port, serve

    check_port(FLAGS.port)
    output = _export_folder(run)
    if not is_current(output, run, FLAGS.member, FLAGS.weights):
        export(run, output, FLAGS.member, FLAGS.weights)
    serve(output, FLAGS.host, FLAGS.port, FLAGS.open_browser)
    console.show("")  # ends the line of Ctrl-C


def _on_run(mode: Callable[["Run"], None]) -> Callable[[Path], None]:
    """A mode that uses a run: it is opened first, and with --dry_run that is all."""

    def start(workdir: Path) -> None:
        run = _open_run(workdir)
        if not _is_dry(workdir, run.config):
            check_devices()
            mode(run)

    return start


MODES: dict[str, Callable[[Path], None]] = {
    "train": _train,
    "train_classifier": _train,
    "evaluate": _on_run(_evaluate),
    "report": _on_run(_report),
    "sample": _on_run(_sample),
    "encode": _on_run(_encode),
    "edit": _on_run(_edit),
    "export": _on_run(_export),
    "serve": _on_run(_serve),
    "prepare": _prepare,
    "cells": _cells,
}


def _open_run(workdir: Path) -> "Run":
    """The run in the work directory, with what the flags say about using it."""
    from infogan_jax.run.directory import Run

    run = Run.open(workdir)
    config = run.config
    taken = ["data_dir", "download_url", "evaluators", "eval_classifier", "baseline"]
    taken += ["compare", "data_placement"]
    here: dict[str, Any] = {
        name: FLAGS[name].value for name in taken if FLAGS[name].present
    }
    if not Path(config.data_dir).expanduser().is_dir():  # trained on another machine
        here["data_dir"] = FLAGS.data_dir
    for field in dataclasses.fields(Config):
        name = field.name
        was, asked = getattr(config, name), FLAGS[name]
        is_used = name in here or FLAGS.mode in _OF_OTHERS.get(name, ())
        is_other = asked.present and absolute_path(name, asked.value) != was
        if is_other and not is_used:
            has = "none" if was == "" else was
            console.show(f"note: --{name}={asked.value} is not used, the run has {has}")
    config = dataclasses.replace(config, **here).with_absolute_paths()
    return dataclasses.replace(run, info=dataclasses.replace(run.info, config=config))


def _join() -> None:
    from infogan_jax.distributed import processes

    if FLAGS.mode not in _TRAINING:
        raise UserError(
            f"--coordinator_address={FLAGS.coordinator_address}: --mode={FLAGS.mode} "
            "is for one process; leave it out"
        )
    processes.join(FLAGS.coordinator_address, FLAGS.num_processes, FLAGS.process_id)
    faulthandler.disable()  # the end of another process is no fault of this one
    if not processes.is_primary():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # only the primary one prints


def _output(run: "Run", standard: str) -> Path:
    """The path of --output, or the standard name with the first number that is free."""
    if FLAGS.output:
        return expand_path("output", FLAGS.output)
    return run.free_path(standard)


def _export_folder(run: "Run") -> Path:
    """The path of --output, or the folder of the run's own page."""
    return expand_path("output", FLAGS.output) if FLAGS.output else run.explorer


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags; ends the process with one line if they cannot be read."""
    try:
        return flags.parse_flags(argv)
    except UserError as error:
        _fail(str(error), 2)


def _report_unraisable(late: "sys.UnraisableHookArgs") -> None:
    """Reports an error that nobody can catch.

    TensorStore's threads answer a failed save after their event loop was closed, which
    is no news. A Ctrl-C within such a place would be lost as an exception.
    """
    if late.exc_type is KeyboardInterrupt:
        _say(_ABORTED)
        os._exit(130)
    if str(late.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(late)


def _say(message: str) -> None:
    """Prints one line, whatever a value, a file's name or a library's text may hold."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in message)
    console.show(f"infogan_jax: {shown}", is_fault=True)


def _fail(message: str, code: int) -> NoReturn:
    _say(message)
    if code > 128 or (FLAGS.is_parsed() and FLAGS.coordinator_address):
        # At once: neither another process nor a thread of this one is waited for.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def run() -> None:
    """The console script `infogan`."""
    if flags.asks_for_help(sys.argv):
        console.show(flags.help_text())
        os._exit(0)  # the interpreter would take a quarter of a second to unload jax
    try:
        if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app.run(main, flags_parser=parse_flags)
    except KeyboardInterrupt:
        _fail(_ABORTED, 130)


if __name__ == "__main__":
    run()
