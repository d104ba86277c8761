"""Several processes train as one: real ones, on this machine."""

import json
import os
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments.faults.runs import free_port
from tests.conftest import TINY

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "experiments" / "cluster"
FLAGS = [
    *(f"--{name}={value}" for name, value in TINY.items()),
    "--evaluators=clustering",
    "--sample_every=0",
]


def start(*arguments, program=("-m", "infogan_jax.main"), **environment):
    """A process of the program, with one CPU device unless told otherwise."""
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def together(count, *arguments, own=lambda process: [], **options):
    """`count` processes of one run -> (exit code, standard output, error) of each."""
    port = free_port()
    started = [
        start(
            f"--coordinator_address=localhost:{port}",
            f"--num_processes={count}",
            f"--process_id={process}",
            *arguments,
            *own(process),
            **options,
        )
        for process in range(count)
    ]
    told = [process.communicate(timeout=300) for process in started]
    return [(p.returncode, *t) for p, t in zip(started, told, strict=True)]


def lines(folder):
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data_dir):
    """Metrics of ten steps by one process."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    process = start(*FLAGS, f"--data_dir={data_dir}", f"--workdir={workdir}")
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return lines(workdir)


def same(found, expected):
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, abs=1e-5, rel=1e-5)


@pytest.mark.long
def test_two_processes_equal_one_and_go_on_as_one(alone, data_dir, tmp_path):
    flags = [*FLAGS, f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}"]
    first, second = together(2, *flags, "--steps=5", "--data_placement=stream")
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert "step 5/5" in first[1] and not second[1]
    process = start(*flags, JAX_NUM_CPU_DEVICES="4")  # other devices, resident data
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert "continuing from step 5" in out
    same(lines(tmp_path / "run"), alone)


@pytest.mark.long
def test_four_processes_with_a_member_each_equal_one_alone(alone, data_dir, tmp_path):
    flags = [*FLAGS, f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}"]
    found = together(4, *flags, "--num_seeds=4")
    assert [code for code, _, _ in found] == [0] * 4, found
    same(lines(tmp_path / "run" / "seed_0"), alone)
    assert (tmp_path / "run" / "seed_3" / "metrics.jsonl").exists()


def test_processes_with_other_flags_are_refused(data_dir, tmp_path):
    found = together(
        2,
        *FLAGS,
        f"--data_dir={data_dir}",
        f"--workdir={tmp_path / 'run'}",
        own=lambda process: [f"--g_learning_rate={1 + process}e-3"],
    )
    for code, _, error in found:
        assert code == 2
        assert "--g_learning_rate: 0.002 in process 1, 0.001 in process 0" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_processes_that_do_not_share_their_work_directory_are_refused(
    data_dir, tmp_path
):
    found = together(
        2,
        *FLAGS,
        f"--data_dir={data_dir}",
        own=lambda process: [f"--workdir={tmp_path / f'host_{process}'}"],
    )
    for code, _, error in found:
        assert code == 2
        assert "process 1: --workdir=" in error
        assert "expected one folder that all processes share" in error


@pytest.mark.long
def test_when_one_is_killed_the_other_says_so_and_ends(data_dir, tmp_path):
    flags = [*FLAGS, f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}"]
    flags += ["--steps=1000000", f"--coordinator_address=localhost:{free_port()}"]
    first, second = (
        start(*flags, "--num_processes=2", f"--process_id={i}") for i in range(2)
    )
    while "step " not in (line := first.stdout.readline()):
        assert line, first.stderr.read()
    second.kill()
    _, error = first.communicate(timeout=60)
    # By our own line, or by that of jax.distributed, which aborts: whichever is first
    assert first.returncode in (1, -signal.SIGABRT)
    assert "another process ended" in error or "another task died" in error
    second.communicate()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ["--coordinator_address=localhost:1", "--process_id=1"],
            "less than --num_processes",
        ),
        (["--coordinator_address=here"], "expected HOST:PORT, or auto"),
        (["--coordinator_address=auto"], "no group of processes"),
        (["--coordinator_address=auto", "--mode=evaluate"], "is for one process"),
    ],
)
def test_wrong_groups(flags, told, tmp_path):
    process = start(*flags, f"--workdir={tmp_path / 'run'}")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert len(error.splitlines()) == 1 and told in error, error


# What SLURM tells each process, and `srun`'s part of it
SRUN = """#!/bin/bash
shift
for id in 0 1; do
  SLURM_PROCID=$id SLURM_LOCALID=$id "$@" &
  ids="${ids:-} $!"
done
for id in $ids; do wait "$id" || code=$?; done
exit "${code:-0}"
"""


@pytest.mark.long
def test_the_slurm_job_by_the_variables_of_slurm(data_dir, tmp_path):
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(SRUN)
    srun.chmod(srun.stat().st_mode | stat.S_IXUSR)
    flagfile = tmp_path / "tiny.cfg"
    flagfile.write_text("\n".join([*FLAGS, f"--data_dir={data_dir}"]))
    environment = {
        "PATH": f"{srun.parent}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "RUNS": str(tmp_path),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "JAX_NUM_CPU_DEVICES": "1",
    }
    done = subprocess.run(
        ["bash", CLUSTER / "slurm.sh", flagfile, "--steps=5"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "step 5/5" in done.stdout
    assert len(lines(tmp_path / "tiny")) == 1


POISONED = """
import sys
from absl import app
from infogan_jax import main
from infogan_jax.training import runs
from tests.poison import poisoned
runs.make_train_step = poisoned(7, False)
app.run(main.main, argv=["main", *sys.argv[1:]], flags_parser=main.parse_flags)
"""


@pytest.mark.long
def test_both_processes_go_back_from_what_is_not_finite(data_dir, tmp_path):
    told = together(
        2,
        *(*FLAGS, f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}"),
        "--on_nonfinite=rollback",
        program=["-c", POISONED],
    )
    assert [code for code, _, _ in told] == [0, 0], told
    assert "back to step 5 with other random numbers, 1 of 3" in told[0][1]
    assert [row["step"] for row in lines(tmp_path / "run")] == [5, 10]


ASKED = """
import os, signal, sys, time
from absl import app
from infogan_jax import main
from infogan_jax.distributed import devices
def compile(run):
    if "--process_id=1" in sys.argv:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
devices.MultiStep.compile = compile
app.run(main.main, argv=["main", *sys.argv[1:]], flags_parser=main.parse_flags)
"""


def test_a_signal_to_one_while_all_compile_stops_all(data_dir, tmp_path):
    flags = [*FLAGS, f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}"]
    for code, _, error in together(2, *flags, program=["-c", ASKED]):
        assert code == 128 + signal.SIGTERM, error
        assert "stopped by SIGTERM after step 0, all saved" in error


GCLOUD = """#!/bin/bash
# gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all --command=..: here, and
# at the first try preempted; describe NAME: of one that is there.
[ "$4" = describe ] && { [ "$5" = slice ]; exit; }
printf '%s\\n' "${*:1:7}" >>"$LOG"
[ "$(wc -l <"$LOG")" = 1 ] && exit 255
exec bash -c "${8#--command=}"
"""


def test_the_tpu_job_asks_again_and_passes_its_arguments_on(tmp_path):
    flags = ["a.cfg", "--codes=cat:10,noise:6 2"]
    gcloud, log = tmp_path / "bin" / "gcloud", tmp_path / "log"
    gcloud.parent.mkdir()
    gcloud.write_text(GCLOUD)
    (tmp_path / "infogan_jax").mkdir()
    run = tmp_path / "infogan_jax" / "run.sh"
    run.write_text('#!/bin/bash\nprintf "%s\\n" "$@" >arguments\nexit 2\n')
    for path in gcloud, run:
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    environment = {"PATH": f"{gcloud.parent}:{os.environ['PATH']}", "LOG": str(log)}

    def submit(name):
        return subprocess.run(
            ["bash", CLUSTER / "tpu.sh", name, "zone", *flags],
            cwd=tmp_path,
            env={**os.environ, **environment, "WAIT": "0"},
            timeout=60,
        ).returncode

    assert submit("another") == 3
    assert not log.exists()
    assert submit("slice") == 2  # a mistake in the flags: it asks no third time
    asked = "compute tpus tpu-vm ssh slice --zone=zone --worker=all"
    assert log.read_text().splitlines() == [asked, asked]
    told = (tmp_path / "infogan_jax" / "arguments").read_text().splitlines()
    assert told == [*flags, "--coordinator_address=auto"]


def test_the_kubernetes_job_names_its_own_coordinator():
    job = yaml.safe_load((CLUSTER / "jobset.yaml").read_text())
    (replicated,) = job["spec"]["replicatedJobs"]
    spec = replicated["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    *_, line = container["command"]
    flags = dict(
        word.removeprefix("--").split("=", 1)
        for word in shlex.split(line)
        if word.startswith("--")
    )
    # JobSet calls pod 0 of its first job SET-JOB-0-0.SUBDOMAIN.
    set_name, subdomain = job["metadata"]["name"], job["spec"]["network"]["subdomain"]
    host, port = flags["coordinator_address"].split(":")
    assert host == f"{set_name}-{replicated['name']}-0-0.{subdomain}"
    assert int(port) == container["ports"][0]["containerPort"]
    assert int(flags["num_processes"]) == spec["completions"] == spec["parallelism"]
    assert (ROOT / flags["flagfile"]).exists()
