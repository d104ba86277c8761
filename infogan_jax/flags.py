"""The flags of the command line: those of `Config`, and some that say what to do."""

import codecs
import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from infogan_jax import console, former
from infogan_jax.config import Config
from infogan_jax.errors import UserError, expand_path
from infogan_jax.settings import SECTIONS

FLAGS = flags.FLAGS
Sections = dict[str, dict[str, tuple[Any, str]]]
HELP_SECTIONS: dict[str, list[str]] = {}  # title -> flags, as --help shows them
_DEFINE: dict[type, Callable] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    list: flags.DEFINE_multi_string,
}
_BEFORE: Sections = {  # flags beside those of `Config`: name -> default, help text
    "What to do": {
        "mode": (
            "train",
            "What to do: one of train, train_classifier, evaluate, report, sample, "
            "encode, edit, export, serve, prepare, cells.",
        ),
        "workdir": (
            "",
            "Folder of the run; made if need be; empty: runs/NAME of the flagfile.",
        ),
        "restart": (False, "Move a run that is there aside and start over."),
        "dry_run": (
            False,
            "Print what would run, and do nothing; data and other runs are not looked "
            "at.",
        ),
    },
}
_BEHIND: Sections = {
    "Using a run": {
        "fix": (
            [],
            "sample, edit: NAME=VALUE by commas, class=NAME too; sample: NAME=FROM..TO "
            "as well.",
        ),
        "num_samples": (100, "sample: images, or steps along a range."),
        "latents_file": ("", "sample: a file of latents, as the explorer saves them."),
        "input_dir": (
            "",
            "encode: a folder; empty: the one that the run was trained on.",
        ),
        "member": (None, "Seed of the member to use; default: the chosen one."),
        "output": (
            "",
            "sample: FILE.png, FILE.npy, FILE.tif or a folder; encode: FILE.csv, "
            "FILE.parquet, FILE.h5ad or FILE.h5sc; edit, export, serve, cells: a "
            "folder; empty: in the workdir.",
        ),
        "keep_residual": (
            False,
            "edit: add to the edited image what the generator could not make again.",
        ),
        "weights": (
            "float32",
            "export: type of the stored weights, float32 or float16.",
        ),
        "host": (
            "127.0.0.1",
            "serve: address to serve at; 0.0.0.0: to other machines too.",
        ),
        "port": (8000, "serve: the port; 0: any that is free."),
        "open_browser": (True, "serve: open a browser, where there is a screen."),
    },
    "Cells of segmented fields": {
        "images": (
            "",
            "cells: a folder of fields of view; edit: a folder of images.",
        ),
        "masks": (
            "",
            "cells: a folder of their masks, label images of the fields' names; empty: "
            "beside the fields.",
        ),
        "mask_suffix": (
            "",
            "cells: what a mask's name has behind the field's, such as _cp_masks; "
            "empty: any that is usual.",
        ),
        "window": (
            "",
            "cells: side of what is cut out, pixels, or 20um; empty: so that almost "
            "all fit.",
        ),
        "surroundings": (
            "neighbours",
            "cells: what becomes background: neighbours, all that is not the object, "
            "or keep: nothing.",
        ),
    },
    "Several processes": {
        "coordinator_address": (
            "",
            "Several processes train together: HOST:PORT of process 0, or auto: as "
            "SLURM, Open MPI, Kubernetes or Cloud TPU say; empty: this process only.",
        ),
        "num_processes": (
            1,
            "How many processes train, unless --coordinator_address=auto.",
        ),
        "process_id": (
            0,
            "Number of this one, from 0, unless --coordinator_address=auto.",
        ),
    },
}


def _define_flags(sections: Sections) -> None:
    for title, table in sections.items():
        HELP_SECTIONS[title] = list(table)
        for name, (default, text) in table.items():
            kind = int if default is None else type(default)
            _DEFINE[kind](name, default, text)


def _config_flags() -> Sections:
    fields = {field.name: field for field in dataclasses.fields(Config)}
    return {
        str(section.__doc__): {
            name: (fields[name].default, fields[name].metadata["help"])
            for name in section.__annotations__
        }
        for section in SECTIONS
    }


for _sections in (_BEFORE, _config_flags(), _BEHIND):
    _define_flags(_sections)


def config_from_flags() -> Config:
    """Returns the config that the flags describe.

    Raises:
        UserError: it cannot work.
    """
    names = [field.name for field in dataclasses.fields(Config)]
    values: dict[str, Any] = {name: FLAGS[name].value for name in names}
    config = Config(**values)
    config.check_trainable()
    return config


def has_default(name: str) -> bool:
    """Returns whether a flag has a default that is worth showing."""
    return FLAGS[name].default not in ("", None, [])


def help_text() -> str:
    """Returns all flags, by section, with their help texts and defaults."""
    lines = ["infogan --flagfile=NAME [--workdir=FOLDER] [--flag=..]"]
    for title, names in HELP_SECTIONS.items():
        lines += ["", title]
        for name in names:
            flag = FLAGS[name]
            default = f" [{flag.default}]" if has_default(name) else ""
            shown = f"--[no]{name}" if flag.boolean else f"--{name}"
            text = flags.text_wrap(f"{flag.help}{default}", 88, "      ")
            lines += [f"  {shown}", text]
    return "\n".join(lines)


def asks_for_help(argv: list[str]) -> bool:
    """Returns whether a command line asks for the help text."""
    return bool({"--help", "-help", "-h"} & set(argv[1:]))


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags as absl does, and prints help by section.

    Raises:
        UserError: a flag is unknown, of a former version, or cannot be read.
    """
    if asks_for_help(argv):
        console.show(help_text())
        sys.exit(0)
    try:
        words, files = _flagfiles_first(argv)
        rest = FLAGS(words)
        if files and not FLAGS["workdir"].present:
            FLAGS["workdir"].value = str(Path("runs") / files[-1].stem)
        return rest
    except flags.UnrecognizedFlagError as error:
        if today := former.upgrade_flag(error.flagname):
            raise UserError(f"--{error.flagname}: is now --{today}") from None
        raise _unreadable(error) from None
    except (flags.Error, OSError, UnicodeError) as error:  # also a flagfile's
        raise _unreadable(error) from None


def find_flagfile(name: str) -> Path:
    """Returns the path of a flagfile, which may be given by name if it is shipped.

    Args:
        name: a path, or for example `quickstart`.

    Raises:
        UserError: there is no such file, or it is no plain UTF-8.
    """
    path = expand_path("flagfile", name)
    if not path.is_file():
        shipped = {file.stem: file for file in shipped_flagfiles()}
        if name.removesuffix(".cfg") not in shipped:
            raise UserError(
                f"--flagfile={name}: no such file; the names of those that are "
                f"shipped are {', '.join(shipped)}"
            )
        path = shipped[name.removesuffix(".cfg")]
    try:
        content = path.read_bytes()
        if content.startswith(codecs.BOM_UTF8):
            raise ValueError("it begins with a byte order mark")
        content.decode()
    except ValueError as error:
        raise UserError(
            f"--flagfile={name}: is no plain UTF-8 text ({error}); save it as that"
        ) from None
    return path


def shipped_flagfiles() -> list[Path]:
    """Returns the flagfiles of the installed package, or else of the checkout."""
    package = Path(__file__).parent
    for folder in (package / "flagfiles", package.parent / "experiments"):
        if files := sorted(folder.glob("*.cfg")):
            return files
    return []


def _flagfiles_first(argv: list[str]) -> tuple[list[str], list[Path]]:
    """The command line with its flagfiles in front, for what is typed wins.

    Returns:
        The command line, and the paths of the flagfiles.
    """
    program, *rest = argv
    files, others = [], []
    while rest:
        word = rest.pop(0)
        name, has_value, value = word.lstrip("-").partition("=")
        if not (word.startswith("-") and name == "flagfile"):
            others.append(word)
            continue
        if not has_value and rest:
            value = rest.pop(0)
        files.append(find_flagfile(value))
    return [program, *(f"--flagfile={file}" for file in files), *others], files


_PLAIN = {  # what absl and Python say of a value, and what is meant
    r"invalid literal for int\(\).*": "expected a whole number",
    r"could not convert string to float.*": "expected a number",
    r"\('Non-boolean argument.*": "expected true or false",
    r"ERROR:: Unable to open flagfile: (\[Errno \d+\] )?": "--flagfile: ",  # nested
}


def _unreadable(error: Exception) -> UserError:
    message = " ".join(str(error).splitlines())
    for said, meant in _PLAIN.items():
        message = re.sub(said, meant, message)
    return UserError(f"{message}; --help lists all flags")
