"""What surrounds a run: terminals, signals, the environment, and other processes."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infogan_jax import Config, console, cores
from infogan_jax.cores import core_count, in_order
from infogan_jax.files import locked, remove_partial_files, write_atomically
from infogan_jax.run.lock import Lock
from infogan_jax.training.interrupt import Interrupts


def show_to(stream, monkeypatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    console.show(text)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_words_that_an_output_cannot_show_are_escaped(monkeypatch, encoding):
    content = io.BytesIO()
    stream = io.TextIOWrapper(content, encoding)
    show_to(stream, monkeypatch, "Höhe 細胞 \udcff")
    shown = content.getvalue().decode(encoding)
    expected = {"ascii": r"H\xf6he \u7d30\u80de", "latin-1": r"Höhe \u7d30\u80de"}
    assert shown == expected.get(encoding, "Höhe 細胞") + " \\udcff\n"


def test_an_output_that_is_closed_or_absent_ends_nothing(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(console, "_give_up", lambda descriptor: None)
    for stream in (closed, None):
        show_to(stream, monkeypatch, "words")
        assert not console.is_terminal()
    monkeypatch.setattr(sys, "stdout", object())
    assert not console.is_terminal()


@pytest.mark.long
@pytest.mark.parametrize("output", ["/dev/full", "closed", "pipe"])
def test_no_run_ends_for_its_words(trained, tiny_flags, data_dir, output):
    """A full disk, a closed output, and a reader such as `head` that has gone."""
    workdir, _ = trained
    command = [sys.executable, "-m", "infogan_jax.main", f"--workdir={workdir}"]
    command += [*tiny_flags, f"--data_dir={data_dir}"]
    (workdir / "report.html").unlink()
    with contextlib.ExitStack() as stack:
        if output == "pipe":
            reader, writer = os.pipe()
            os.close(reader)
            stdout = stack.enter_context(os.fdopen(writer, "wb"))
        else:
            name = "/dev/full" if output == "/dev/full" else os.devnull
            stdout = stack.enter_context(open(name, "wb"))
        if output == "closed":
            command = ["sh", "-c", '"$@" >&-', "sh", *command]
        done = subprocess.run(
            command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert (workdir / "report.html").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_signals_that_end_a_run(name, capsys):
    signum = getattr(signal, name)
    former = signal.signal(signum, signal.SIG_DFL)  # behind nohup one is ignored
    try:
        with contextlib.closing(Interrupts()) as stop:
            os.kill(os.getpid(), signum)
            assert stop.signum == signum
    finally:
        signal.signal(signum, former)
    assert f"{name}: saving" in capsys.readouterr().err


def test_a_signal_that_is_ignored_stays_so():
    """As SIGHUP is behind nohup."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with contextlib.closing(Interrupts()) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signum == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("JAX_DISABLE_JIT", "1", "JAX_DISABLE_JIT=1: runs are compiled; unset it"),
        ("JAX_NUMPY_DTYPE_PROMOTION", "strict", "types are promoted as in NumPy"),
        ("JAX_NUMPY_RANK_PROMOTION", "raise", "shapes are broadcast as in NumPy"),
        ("JAX_TRANSFER_GUARD", "disallow", "images are sent to devices as needed"),
    ],
)
def test_settings_of_jax_that_cannot_work(
    name, value, told, command, monkeypatch, tmp_path
):
    monkeypatch.setenv(name, value)
    code, _, error = command(f"--workdir={tmp_path / 'run'}")
    assert code == 2 and told in error and error.count("\n") == 1
    monkeypatch.setenv(name, {"JAX_DISABLE_JIT": "0"}.get(name, "allow"))
    if name != "JAX_NUMPY_DTYPE_PROMOTION":
        assert command(f"--workdir={tmp_path / 'run'}", "--dry_run")[0] == 0


@pytest.mark.parametrize(
    ("name", "value", "code", "told"),
    [
        ("JAX_DEFAULT_MATMUL_PRECISION", "much", 1, 'Invalid value "much" for'),
        ("MPLBACKEND", "none", 0, ""),
    ],
)
def test_variables_that_are_read_while_importing(
    trained, tmp_path, name, value, code, told
):
    """Of jax, which cannot be imported then; and of what figures are drawn by."""
    run = shutil.copytree(trained[0], tmp_path / "run")
    main = [sys.executable, "-m", "infogan_jax.main"]
    done = subprocess.run(
        [*main, "--mode=report", f"--workdir={run}"],
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code and told in done.stderr
    assert done.stderr.count("\n") == bool(told)


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--steps=1e3", "flag --steps=1e3: expected a whole number; --help lists"),
        ("--gan_weight=much", "flag --gan_weight=much: expected a number"),
        ("--gan_weight=nan", "--gan_weight=nan: expected a finite number, 0 or more"),
        ("--restart=maybe", "flag --restart=maybe: expected true or false"),
        ("--flagfile=none.cfg", "--flagfile=none.cfg: no such file; the names"),
    ],
)
def test_values_that_flags_cannot_have(command, tmp_path, flag, told):
    code, _, error = command(f"--workdir={tmp_path / 'run'}", flag)
    assert code == 2 and told in error


def test_a_platform_that_is_not_there_is_told_in_a_line(tmp_path, data_dir):
    done = subprocess.run(
        [sys.executable, "-m", "infogan_jax.main", f"--workdir={tmp_path / 'run'}"],
        env={**os.environ, "JAX_PLATFORMS": "cuda"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "JAX_PLATFORMS=cuda: jax finds no such device (" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_work_directory_that_checkpoints_cannot_have(command, tmp_path):
    workdir = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    code, _, error = command(f"--workdir={workdir}")
    assert code == 2 and "a name that is not UTF-8" in error
    assert error.count("\n") == 1


def test_what_is_typed_wins_over_flagfiles(command, tmp_path):
    flagfile = tmp_path / "run.cfg"
    flagfile.write_text("--steps=20\n--seed=3\n")
    for words in (
        ("--steps=7", f"--flagfile={flagfile}"),
        ("--flagfile", str(flagfile), "--steps=7"),
        ("--steps", "7", f"-flagfile={flagfile}"),
    ):
        code, out, _ = command(f"--workdir={tmp_path}/run", "--dry_run", *words)
        assert code == 0 and '"steps": 7' in out and '"seed": 3' in out


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_a_flagfile_that_is_no_plain_text_is_named(command, tmp_path, encoding):
    flagfile = tmp_path / "run.cfg"
    flagfile.write_bytes("# Größe\n--steps=20\n".encode(encoding))
    flags = f"--workdir={tmp_path}/run", "--dry_run", f"--flagfile={flagfile}"
    code, _, error = command(*flags)
    assert code == 2 and error.count("\n") == 1
    assert f"--flagfile={flagfile}: is no plain UTF-8 text (" in error


def test_paths_of_a_config_do_not_depend_on_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config(dataset="folder:images", group_csv="a/../b.csv", data_dir="")
    absolute = config.with_absolute_paths()
    assert absolute.dataset == f"folder:{tmp_path}/images"
    assert absolute.group_csv == f"{tmp_path}/b.csv"
    assert absolute.data_dir == "" and absolute.composite == config.composite
    monkeypatch.chdir("/")
    assert absolute.with_absolute_paths() == absolute


def test_cores_are_those_that_a_process_may_use():
    allowed = os.sched_getaffinity(0)
    assert core_count() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert core_count() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("seconds", [0, 1e9])  # by processes, by threads
def test_shared_work_comes_in_order_and_its_errors_arrive(monkeypatch, seconds):
    monkeypatch.setattr(cores, "_MIN_SECONDS", seconds)
    here = os.getpid()

    def work(x: int) -> tuple[int, bool]:
        if x == 300:
            raise ValueError("300")
        return x * x, os.getpid() == here

    results = list(in_order(work, range(300)))
    assert [square for square, _ in results] == [x * x for x in range(300)]
    are_here = [is_here for _, is_here in results]
    assert all(are_here) or (seconds == 0 and sum(are_here) == 3)
    with pytest.raises(ValueError, match="300"):
        list(in_order(work, range(301)))
    assert list(in_order(work, [])) == []
    assert next(in_order(work, range(300))) == (0, True)  # and is left


def test_processes_that_share_work_end_with_the_first_one():
    """Even if that is killed, and says nothing."""
    script = """if True:
        import logging, os, sys
        from infogan_jax import cores
        cores._MIN_SECONDS = 0
        def work(x):
            logging.getLogger("tifffile").error("a file that is none")
            return os.getpid()
        print(*set(list(cores.in_order(work, range(100)))[50:]), flush=True)
        os.kill(os.getpid(), 9)
    """
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert ended.returncode == -signal.SIGKILL
    workers = [int(pid) for pid in ended.stdout.split()]
    assert workers
    assert ended.stderr.count(b"a file that is none") == 3  # the first ones
    deadline = time.monotonic() + 30
    while any(map(_lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_lives, workers))


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # which nobody waited for


def test_two_that_write_one_file_leave_one_whole(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([i]) * 10_000 for i in range(4)]

    def write(content):
        for _ in range(50):
            write_atomically(path, content)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, contents))
    assert path.read_bytes() in contents
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    (tmp_path / ".file.0123abcd.part").write_bytes(b"of a killed process")
    remove_partial_files(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_lock_is_waited_for(tmp_path):
    order = []

    def second():
        with locked(tmp_path / "lock"):
            order.append("second")

    with locked(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_no_evaluation_while_a_run_trains(trained, command):
    workdir, _ = trained
    with Lock() as lock:
        lock.take(workdir)
        code, _, error = command("--mode=evaluate", f"--workdir={workdir}")
    assert code == 2 and f"is in use by process {os.getpid()}" in error
