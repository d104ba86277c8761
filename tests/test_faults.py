"""What harm leaves of a run: checkpoints damaged, directories in use."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from infogan_jax import Config, Trained, UserError, build_model
from infogan_jax.files import write_atomically
from infogan_jax.inference import weight_digest
from infogan_jax.run.checkpoints import Checkpoints, with_plain_key
from infogan_jax.run.directory import Lock, Run
from infogan_jax.training.logging import MetricsFile
from tests.conftest import cut, flip, longest_file, run_in
from tests.poison import poisoned


@pytest.fixture(scope="module")
def state(config):
    return build_model(config, (28, 28, 1)).init(jax.random.key(0))


@pytest.fixture(scope="module")
def saved(state, tmp_path_factory):
    """A work directory with checkpoints of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("saved")
    checkpoints = Checkpoints(folder, 2)
    for step in (1, 2):
        checkpoints.save(step, state.replace(step=np.int32(step)))
    checkpoints.close()
    return folder


@pytest.fixture
def workdir(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    return tmp_path / "run"


def largest(folder):
    return max(
        (path for path in folder.rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )


def flip_a_bit(folder):
    flip(largest(folder))


def cut_short(folder):
    cut(largest(folder))


def empty(folder):
    largest(folder).write_bytes(b"")


def lose_a_file(folder):
    largest(folder).unlink()


def garble_the_digests(folder):
    (folder / "digests.json").write_text("{")


def nest_the_digests(folder):
    (folder / "digests.json").write_text("[" * 100_000)


def empty_the_digests(folder):
    (folder / "digests.json").write_text("{}")


def cut_without_digests(folder):
    """As an older version left it, and then harmed."""
    (folder / "digests.json").unlink()
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


RUN_2 = ["878201627517", "6f866b0962af"]
HARM = {
    flip_a_bit: "is not as it was written",
    cut_short: "is not as it was written",
    empty: "is not as it was written",
    lose_a_file: "is missing",
    garble_the_digests: "digests.json",
    nest_the_digests: "digests.json",
    empty_the_digests: "digests.json is empty",
    cut_without_digests: "",
}


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_a_damaged_checkpoint_is_passed_over(harm, workdir, state, logged):
    harm(workdir / "checkpoints" / "2")
    checkpoints = Checkpoints(workdir, 2)
    found = checkpoints.restore(state)
    assert int(found.step) == 1
    said = logged()
    assert said.startswith("WARNING: checkpoint 2 is passed over (")
    assert HARM[harm] in said and said.endswith("using 1")
    # Its place is free for the run that comes to that step again
    checkpoints.set_damaged_aside()
    assert (workdir / "damaged" / "2").is_dir()
    checkpoints.save(2, found.replace(step=np.int32(2)))
    checkpoints.close()
    again = Checkpoints(workdir, 2)
    assert int(again.restore(state).step) == 2
    again.close()


def test_what_a_run_deletes_meanwhile_is_no_damage(workdir, state, logged):
    looking, running = Checkpoints(workdir, 2), Checkpoints(workdir, 2)
    for step in (3, 4):
        running.save(step, state.replace(step=np.int32(step)))
    running.close()
    assert int(looking.restore(state).step) == 4
    looking.close()
    assert logged() == ""


def test_nothing_begins_anew_where_no_checkpoint_can_be_used(workdir, state):
    for step in "12":
        flip_a_bit(workdir / "checkpoints" / step)
    checkpoints = Checkpoints(workdir, 2)
    with pytest.raises(UserError, match=r"\(1: .*; 2: .*\); restore one from a copy"):
        checkpoints.restore(state)
    checkpoints.close()
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["1", "2"]


def test_a_checkpoint_without_digests_is_as_good_as_it_reads(workdir, state):
    (workdir / "checkpoints" / "2" / "digests.json").unlink()
    checkpoints = Checkpoints(workdir, 2)
    assert int(checkpoints.restore(state).step) == 2
    checkpoints.close()


@pytest.mark.parametrize("run", sorted((Path(__file__).parent / "data").glob("run_*")))
def test_runs_of_former_versions_are_read(run, tmp_path):
    """One for each form that checkpoints and config.json have had."""
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    states = Run.open(workdir).load_states()
    assert {int(state.step) for state in states} == {4}
    found = [weight_digest(with_plain_key(state)) for state in states]
    assert found == {"run_1": ["a63fe46b48e5"], "run_2": RUN_2}[run.name]


def test_a_save_that_fails_is_told_at_the_latest_when_closing(state, tmp_path, logged):
    """In a line that takes no other error's place."""
    checkpoints = Checkpoints(tmp_path, 2)
    large = jax.random.normal(state.key, 50_000)  # in one file, of 200 kB
    with longest_file(40_000):
        checkpoints.save(1, state.replace(ema=large))
        checkpoints.close()
    told = logged()
    assert told.startswith("WARNING: ") and told.count("\n") == 0
    assert "a checkpoint could not be written (File too large" in told


def test_what_is_not_finite_is_told_with_its_step():
    from infogan_jax.training.divergence import describe

    whole, spoiled = ({"w": np.float32([1, x])} for x in (2, np.inf))
    states = [SimpleNamespace(variables=lambda v=v: v) for v in (whole, spoiled)]
    loss, norm = np.ones((2, 4)), np.array([1, np.nan])
    loss[1, 2:] = np.nan
    bad = np.array([False, True])
    (told,) = describe(states, {"loss": loss}, norm, [7, 8], bad, (10, 14))
    assert told == "seed 8: loss, norm/state not finite by step 13 (in w)"


def test_a_device_without_memory_is_told(command, tiny_flags, tmp_path, monkeypatch):
    from infogan_jax.training import runs

    def much(model):
        def step(state, images):
            terabytes = jax.random.normal(state.key, 2**45).sort()
            return state, {"loss": terabytes[state.step]}

        return step

    monkeypatch.setattr(runs, "make_train_step", much)
    code, _, error = command(f"--workdir={tmp_path / 'run'}", *tiny_flags)
    assert (code, error.count("\n")) == (1, 1)
    assert error.startswith("infogan_jax: no memory left (RESOURCE_EXHAUSTED: ")
    assert "smaller --batch_size" in error


def test_no_half_file_stays(tmp_path):
    """Of a write that fails; or was cut off, once the run begins again."""
    path = tmp_path / "a.json"
    path.write_text("whole")
    with longest_file(40_000), pytest.raises(OSError):
        write_atomically(path, bytes(50_000))
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "whole"
    (tmp_path / ".a.json.part").write_text("ha")
    (tmp_path / "a.json").rename(tmp_path / "config.json")
    run = run_in(tmp_path, Config())
    run.info.write(tmp_path / "config.json")
    with Lock() as lock:
        Run.create(tmp_path, run.info, False, lock)
    assert not (tmp_path / ".a.json.part").exists()


def test_files_that_others_leave_do_no_harm(workdir, state, logged):
    for step in "12":
        (workdir / "checkpoints" / step / ".DS_Store").write_text("x")
        (workdir / "checkpoints" / step / "notes.txt").write_text("x")
        (workdir / "checkpoints" / step / ".digests.json.part").write_text("x")
    checkpoints = Checkpoints(workdir, 2)
    assert int(checkpoints.restore(state).step) == 2
    checkpoints.close()
    assert logged() == ""


def test_a_lock_on_a_directory_that_was_moved_aside_is_none(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    lock_file = fcntl.flock

    def moved_first(file, how):
        (tmp_path / "run").rename(tmp_path / "run.1")
        return lock_file(file, how)

    with Lock() as lock, monkeypatch.context() as race:
        race.setattr(fcntl, "flock", moved_first)
        with pytest.raises(UserError, match="is in use by"):
            lock.take(tmp_path / "run")


def test_what_is_locked_is_no_file_elsewhere(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with Lock() as lock, pytest.raises(OSError):
        lock.take(tmp_path)
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: np.save(path, np.full((1, 4000), 77, np.int32)),
        lambda path: np.save(path, np.full((1, 4000), 0.5)),
        lambda path: np.save(path, np.full((1, 4000), "x")),
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.unlink(),
    ],
    ids=["no category", "no integers", "words", "cut", "gone"],
)
def test_damaged_pseudo_labels_are_not_used(harm, config, tmp_path, state):
    from infogan_jax.training.pseudo_labels import pseudo_labels

    path, images = tmp_path / "labels.npy", np.zeros((4000, 28, 28, 1), np.uint8)
    np.save(path, np.zeros((1, 4000), np.int32))
    trained = [Trained(build_model(config, (28, 28, 1)), state)]
    arguments = 5, trained, [0], images, path, 3
    assert pseudo_labels(*arguments).shape == (1, 4000)
    harm(path)
    with pytest.raises(UserError, match="missing or damaged"):
        pseudo_labels(*arguments)


@pytest.mark.parametrize(
    "line", ['{"step":"a"}', '{"step":null}', "[" * 100_000, "5", '{"step":1e999}']
)
def test_damaged_lines_of_metrics_go(line, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 5}}\n{line}\n')
    with path.open("ab") as file:
        file.write(b"\xff\n")
    MetricsFile(path, None, 7).close()
    assert path.read_text() == '{"step": 5}\n'


@pytest.mark.long
def test_a_damaged_checkpoint_in_a_whole_run(command, tiny_flags, tmp_path):
    flags = [*tiny_flags, f"--workdir={tmp_path / 'run'}", "--sample_every=0"]
    assert command(*flags)[0] == 0
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    flip_a_bit(tmp_path / "run" / "checkpoints" / "10")
    code, out, _ = command(*flags)
    assert code == 0
    assert "checkpoint 10 is passed over" in out
    assert "continuing from step 5" in out
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before
    for step in ("5", "10"):
        flip_a_bit(tmp_path / "run" / "checkpoints" / step)
    code, _, error = command(*flags)
    assert (code, error.count("\n")) == (2, 1)
    assert "no checkpoint can be used" in error


def test_one_work_directory_has_one_run(command, tiny_flags, tmp_path):
    """Until its process is gone, by whatever end."""
    script = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from infogan_jax.run.lock import Lock
lock = Lock()
lock.take(Path(sys.argv[1]))
print("taken", flush=True)
time.sleep(600)
"""
    (tmp_path / "run").mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "run"], stdout=-1, text=True
    )
    assert holder.stdout.readline() == "taken\n"
    code, _, error = command(*tiny_flags, f"--workdir={tmp_path / 'run'}")
    assert (code, error.count("\n")) == (2, 1)
    assert f"is in use by process {holder.pid} on " in error
    holder.kill()
    holder.wait()
    with Lock() as lock:
        lock.take(tmp_path / "run")


@pytest.mark.long
@pytest.mark.timeout(1200)  # whole runs, with all optimisations
def test_a_trial_of_the_harness(tmp_path):
    """One is killed, at a moment that `--seed` draws."""
    command = [sys.executable, "-m", "experiments.faults", "--trials=1", "--seed=3"]
    done = subprocess.run(
        [*command, "--kinds=kill", f"--workdir={tmp_path}"],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"},  # few programs
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, killed, _, _, last = done.stdout.splitlines()
    assert killed.startswith("  0 kill, alone: killed; done ")
    assert last == "0 of 1 lost"


def test_an_interrupt_while_importing_leaves_no_traceback():
    command = [sys.executable, "-X", "importtime", "-m", "infogan_jax.main"]
    # Where tests run in the background it is ignored, also by what they start
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, former)
    for line in process.stderr:
        if " absl" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert "Traceback" not in rest
    assert process.wait() in (-signal.SIGINT, 128 + signal.SIGINT)


@pytest.mark.long
@pytest.mark.parametrize(
    ("step", "always", "placement"),
    [(9, False, "resident"), (9, True, "resident"), (4, False, "stream")],
)
def test_rollback(step, always, placement, command, tiny_flags, tmp_path, monkeypatch):
    """To the last checkpoint, or to the beginning."""
    from infogan_jax.training import runs

    monkeypatch.setattr(runs, "make_train_step", poisoned(step, always))
    flags = [*tiny_flags, f"--workdir={tmp_path / 'run'}", "--num_seeds=2"]
    flags += [f"--data_placement={placement}", "--on_nonfinite=rollback"]
    code, out, error = command(*flags)
    last = step // 5 * 5
    # It is the last one of a call: nothing else is spoiled yet
    assert f" not finite by step {step + 1} (in generator/params/" in out, error
    assert "warning: seed 0: " in out and "warning: seed 1: " not in out
    assert f"back to step {last} with other random numbers, 1 of 3" in out
    for seed in (0, 1):
        text = (tmp_path / "run" / f"seed_{seed}" / "metrics.jsonl").read_text()
        assert text.count("\n") == (1 if always else 2) and "NaN" not in text
    run = Run.open(tmp_path / "run")
    keys = [state.key for state in run.load_states()]
    usual = [run.model.init(jax.random.key(seed)).key for seed in (0, 1)]
    assert keys[1] == usual[1]  # what is well goes on as it was
    assert (keys[0] == usual[0]) == always
    if always:
        assert code == 1 and "numbers, 3 of 3" in out
        assert error.count("\n") == 1
        assert "4 times; the state of step 5 is kept. Likely cures: " in error
        # It has had its three tries, in whichever process
        code, out, error = command(*flags)
        assert code == 1 and "back to step" not in out and "4 times" in error
    else:
        assert code == 0 and "2 of 3" not in out
