"""The command line: `python -m infogan_jax.main --flagfile=experiments/mnist.cfg`.

Flags become a Config, and a mode becomes one call. What is slow to import is imported
by the mode that needs it, so that --help answers at once.
"""

import contextlib
import dataclasses
import faulthandler
import itertools
import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

# Ctrl-C while importing ends it, without a traceback; one that is ignored stays so
if __name__ == "__main__" and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from absl import app, flags

from infogan_jax.config import (
    NO_MEMORY,
    Config,
    UserError,
    expand,
    first_line,
    one_of,
)
from infogan_jax.evaluation import evaluator_names

MODES = (
    "train",
    "classify",
    "evaluate",
    "report",
    "generate",
    "recognize",
    "export",
    "explore",
    "prepare",
)
_FROM_FLAGS = ("train", "classify", "prepare")  # the others have a run's config
_SHOWS = "generate", "recognize", "export", "explore"
_ONLY_OF = {  # flags that other modes do not use
    **dict.fromkeys(("set", "count", "latents"), ("generate",)),
    "images": ("recognize",),
    **dict.fromkeys(("replica", "out"), _SHOWS),
    "weights": ("export", "explore"),
    **dict.fromkeys(("host", "port", "open"), ("explore",)),
    "restart": ("train", "classify"),
}
_AT_ONCE = "stopped at once; the last checkpoint is kept"

FLAGS = flags.FLAGS
flags.DEFINE_string("mode", "train", f"What to do: one of {', '.join(MODES)}.")
flags.DEFINE_string("workdir", "", "Folder of the run; made if need be.")
flags.DEFINE_bool("restart", False, "Move a run that is there aside and begin anew.")
flags.DEFINE_bool(
    "dry_run",
    False,
    "Print what would run, and do nothing; data and other runs are not looked at.",
)
flags.DEFINE_multi_string(
    "set", [], "generate: NAME=VALUE or NAME=FROM..TO by commas; class=NAME too."
)
flags.DEFINE_integer("count", 100, "generate: pictures, or steps along a range.")
flags.DEFINE_string(
    "images", "", "recognize: a folder; empty: the one that the run was trained on."
)
flags.DEFINE_string(
    "latents", "", "generate: a file of latents, as the explorer saves them."
)
flags.DEFINE_integer(
    "replica", None, "Seed of the replica that is shown; default: the chosen one."
)
flags.DEFINE_string(
    "out",
    "",
    "generate: FILE.png, FILE.npy or a folder; recognize: FILE.csv; export, explore: a "
    "folder; empty: in the workdir.",
)
flags.DEFINE_string(
    "weights", "float32", "export: type of the stored weights, float32 or float16."
)
flags.DEFINE_string(
    "host", "127.0.0.1", "explore: address to serve at; 0.0.0.0: to other machines too."
)
flags.DEFINE_integer("port", 8000, "explore: the port; 0: any that is free.")
flags.DEFINE_bool("open", True, "explore: open a browser, where there is a screen.")
flags.DEFINE_string(
    "coordinator",
    "",
    "Several processes train together: HOST:PORT of process 0, or auto: as SLURM, Open "
    "MPI, Kubernetes or Cloud TPU tell; empty: this process alone.",
)
flags.DEFINE_integer(
    "num_processes", 1, "How many processes train, unless --coordinator=auto."
)
flags.DEFINE_integer(
    "process_id", 0, "Number of this one, from 0, unless --coordinator=auto."
)
_DEFINE = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}
for _field in dataclasses.fields(Config):
    _DEFINE[type(_field.default)](_field.name, _field.default, _field.metadata["help"])


def config_from_flags() -> Config:
    """The config that the flags describe, checked."""
    names = [field.name for field in dataclasses.fields(Config)]
    config = Config(**{name: FLAGS[name].value for name in names})
    config.validate()
    evaluator_names(config)
    return config


def main(argv: list[str]) -> None:
    # Which backends are not there is no news to a user, nor a new cache of fonts.
    for name in ("absl", "jax._src.xla_bridge", "jax._src.distributed", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.unraisablehook = _tell
    try:
        if len(argv) > 1:
            raise UserError(f"{argv[1]}: expected flags only, such as --workdir=FOLDER")
        one_of("mode", FLAGS.mode, MODES)
        for name, flag in FLAGS.flag_values_dict().items():
            values = flag if isinstance(flag, list) else [flag]
            if any("\0" in str(value) for value in values):
                raise UserError(f"--{name}={flag}: holds a zero byte; leave it out")
        if FLAGS.mode != "prepare" and not FLAGS.workdir:
            raise UserError("--workdir: expected the folder of the run")
        if FLAGS.coordinator:
            _join()
        elif FLAGS.num_processes != 1 or FLAGS.process_id != 0:
            raise UserError(
                f"--num_processes={FLAGS.num_processes}, --process_id="
                f"{FLAGS.process_id}: expected 1 and 0 without --coordinator=HOST:PORT"
            )
        for name, modes in _ONLY_OF.items():
            if FLAGS[name].present and FLAGS.mode not in modes:
                print(f"note: --{name} is not used by --mode={FLAGS.mode}")
        _run(FLAGS.mode, expand("workdir", FLAGS.workdir))
    except UserError as error:
        _fail(str(error), 2)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and NO_MEMORY not in str(error):
            raise
        _fail(
            f"no memory left ({first_line(error)}); a smaller --batch_size, --width or "
            "--image_size, or fewer --seeds need less; all that was saved before is "
            "kept",
            1,
        )
    except OSError as error:
        # Of a file that was open already it does not say which
        is_open = error.errno is not None and error.filename is None
        trains = FLAGS.mode in ("train", "classify")
        place = f"--workdir={FLAGS.workdir}: " if is_open and trains else ""
        _fail(f"{place}{error}; all that was saved before is kept", 1)


def _run(mode: str, workdir: Path) -> None:
    config = config_from_flags() if mode in _FROM_FLAGS else _saved_config(workdir)
    if FLAGS.dry_run:
        return print(f"{mode} in {workdir}\n{config.to_json()}")
    if mode == "generate":
        from infogan_jax.sampling import Asked, sample

        out = _out(workdir / "generated.png")
        asked = Asked(",".join(FLAGS.set), FLAGS.count, FLAGS.seed, FLAGS.latents)
        return sample(workdir, asked, out, FLAGS.replica)
    if mode == "recognize":
        from infogan_jax.recognition import recognize_folder

        out = _out(workdir / "recognized.csv")
        return recognize_folder(workdir, FLAGS.images, out, FLAGS.replica)
    if mode in ("export", "explore"):
        from infogan_jax.export import export, is_current
        from infogan_jax.serving import serve

        out = expand("out", FLAGS.out) if FLAGS.out else workdir / "explorer"
        if mode == "export" or not is_current(out, workdir, FLAGS.replica):
            export(workdir, out, FLAGS.replica, FLAGS.weights)
        if mode == "explore":
            serve(out, FLAGS.host, FLAGS.port, FLAGS.open)
        return
    if mode in ("evaluate", "report"):
        from infogan_jax import workdir as runs
        from infogan_jax.page import write_page

        if mode == "evaluate":
            from infogan_jax.data import fingerprint, load
            from infogan_jax.filtering import apply_filter
            from infogan_jax.parallel import most_resident_bytes
            from infogan_jax.replicas import report_all

            most = most_resident_bytes()
            data, _ = apply_filter(config, load(config, most_bytes=most))
            if not config.filter_by:  # by probabilities, which devices round
                runs.check_data(workdir, config, fingerprint(data))
            report_all(runs.load_states(workdir), config, data, workdir)
        return print(f"the report is {write_page(workdir, config.baseline)}")
    _persistent_compilation_cache()
    if mode == "prepare":
        from infogan_jax.data import prepare

        return print(f"{config.dataset} is prepared in {prepare(config)}")
    import jax

    from infogan_jax import processes
    from infogan_jax.parallel import give_replicas_cores
    from infogan_jax.training import Diverged, Stopped, train, train_classifier

    if config.seeds > 1 and not FLAGS.coordinator:
        give_replicas_cores(config.seeds)
    try:
        (train if mode == "train" else train_classifier)(config, workdir, FLAGS.restart)
    except Stopped as stopped:
        _fail(str(stopped), stopped.exit_code)
    except Diverged as diverged:
        _fail(str(diverged), 1)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if not FLAGS.coordinator or not processes.is_by_another(error):
            raise
        reason = first_line(error)
        _fail(
            f"another process ended or cannot be reached ({reason}); start all of them "
            "again, and they go on from the last checkpoint",
            1,
        )


def _saved_config(workdir: Path) -> Config:
    """That of a run, with what the flags say about measuring it."""
    from infogan_jax import workdir as runs

    config = runs.load_config(workdir)[0]
    taken = ("data_dir", "mirror", "evaluators", "classifier", "baseline", "input")
    here = {name: FLAGS[name].value for name in taken if FLAGS[name].present}
    if not Path(config.data_dir).expanduser().is_dir():  # trained on another machine
        here["data_dir"] = FLAGS.data_dir
    for field in dataclasses.fields(Config):
        name = field.name
        was, asked = getattr(config, name), FLAGS[name]
        # What a picture does not set is drawn by a seed of its own
        is_used = name in here or (name == "seed" and FLAGS.mode == "generate")
        if asked.present and asked.value != was and not is_used:
            has = "none" if was == "" else was
            print(f"note: --{name}={asked.value} is not used, the run has {has}")
    config = dataclasses.replace(config, **here)
    config.validate()
    return config


def _join() -> None:
    from infogan_jax import processes

    if FLAGS.mode not in ("train", "classify"):
        raise UserError(
            f"--coordinator={FLAGS.coordinator}: --mode={FLAGS.mode} is for one "
            "process; leave it out"
        )
    processes.join(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    faulthandler.disable()  # the end of another process is no fault of this one
    if not processes.is_first():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the first one speaks for all


def _out(standard: Path) -> Path:
    """That of --out, or the standard's name with the first number that is free."""
    if FLAGS.out:
        return expand("out", FLAGS.out)
    names = (f"{standard.stem}_{number:03d}" for number in itertools.count(1))
    paths = (standard.with_stem(name) for name in names)
    return next(path for path in paths if not path.exists())


def _persistent_compilation_cache() -> None:
    """What was compiled once is read from disk by the next start."""
    import jax

    if not jax.config.jax_compilation_cache_dir:
        cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
        jax.config.update(
            "jax_compilation_cache_dir", os.path.expanduser(f"{cache}/infogan_jax")
        )
        # Many small programs take as long as one large one.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def parse_flags(argv: list[str]) -> list[str]:
    """What absl does, but for an error in one line."""
    try:
        return FLAGS(argv)
    except (flags.Error, OSError, UnicodeError) as error:  # a flagfile's, too
        message = " ".join(str(error).splitlines())
        return _fail(f"{message}; --help lists all flags", 2)


def _tell(late: "sys.UnraisableHookArgs") -> None:
    """An error where nobody can catch it, but for answers to a save that has failed.

    TensorStore's threads give those to a loop that is closed by then. A Ctrl-C may come
    within such a place, too.
    """
    if late.exc_type is KeyboardInterrupt:
        _say(_AT_ONCE)
        os._exit(130)  # an exception would be lost here
    if str(late.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(late)


def _say(message: str) -> None:
    """One line, whatever a value, a file's name or a library's text may hold."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in message)
    print(f"infogan_jax: {shown}", file=sys.stderr, flush=True)


def _fail(message: str, code: int) -> NoReturn:
    _say(message)
    if code > 128 or (FLAGS.is_parsed() and FLAGS.coordinator):
        # At once: another process need not wait for this one, nor this for its threads
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    try:
        if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app.run(main, flags_parser=parse_flags)
    except KeyboardInterrupt:
        _fail(_AT_ONCE, 130)
