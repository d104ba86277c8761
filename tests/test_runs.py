"""Whole runs, through the command line."""

import copy
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import tifffile
from PIL import Image

from infogan_jax import Config, UserError
from infogan_jax.config import fixed_fields
from infogan_jax.run.directory import Run
from infogan_jax.run.records import INFOGAN
from infogan_jax.training import pseudo_labels

BRIEF = ["--evaluators=clustering", "--sample_every=0"]  # for what saves, not shows


def lines(workdir):
    return [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_says_and_leaves_what_it_should(trained):
    workdir, said = trained
    assert "step 10/10" in said
    assert "I(c;G) of H(c), nats: cat" in said
    assert "/2.30" in said
    assert "held-out images right" in said
    assert [line["step"] for line in lines(workdir)] == [5, 10]
    names = {path.name for path in (workdir / "figures").iterdir()}
    assert names == {
        "categories.png",
        "confusion_cat.png",
        "members.png",
        "real.png",
        "training.gif",
        "members_uniform1.png",
        "members_uniform2.png",
        "traverse_cat.png",
        "traverse_uniform1.png",
        "traverse_uniform2.png",
    }
    with Image.open(workdir / "figures" / "training.gif") as gif:
        assert gif.n_frames == 3  # steps 0, 5 and 10
    assert list((workdir / "tensorboard").glob("events*"))
    saved = json.loads((workdir / "config.json").read_text())
    assert saved["config"]["architecture"] == "mnist_tiny"
    assert saved["versions"]["jax"] == jax.__version__
    results = json.loads((workdir / "evaluation.json").read_text())["clustering"]["cat"]
    assert sum(map(sum, results["table"])) == 1000


def test_the_picture_of_categories_shows_the_generator(trained):
    """The grid's pixels are those of `generate`, row by row in the order of classes."""
    from infogan_jax.reporting import figures
    from infogan_jax.reporting.draw import category_order

    workdir, _ = trained
    folder, trained = Run.open(workdir).load_trained()
    key = figures.figure_key(folder.config.seed)
    latents = figures.grid_latents(key, trained.model.spec)
    evaluation = folder.load_evaluation()
    order, names = category_order(trained, evaluation, folder.class_names)
    images = trained.generate(latents).reshape(10, -1, 28, 28, 1)
    sheet = figures.image_grid(
        images[order].reshape(-1, 28, 28, 1), figures.COLUMNS, names
    )
    with Image.open(workdir / "figures" / "categories.png") as saved:
        difference = np.abs(np.asarray(saved, int) - np.asarray(sheet, int))
    assert difference.max() <= 1


def test_a_finished_run_is_left_as_it_is(trained, command, tiny_flags):
    workdir, _ = trained
    before = (workdir / "metrics.jsonl").read_bytes()
    code, out, _ = command(f"--workdir={workdir}", *tiny_flags)
    assert code == 0
    assert "continuing from step 10" in out
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_ten_steps_equal_five_and_five(command, tiny_flags, tmp_path, monkeypatch):
    """Also while Q learns pseudo-labels, from step 3 on."""
    monkeypatch.setattr(pseudo_labels, "_SAMPLE", 400)  # slow without optimisations
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    flags = [*tiny_flags, "--pseudo_label_step=3", "--evaluators=clustering"]
    code, out, _ = command(f"--workdir={whole}", *flags)
    assert (code, "seed 0, step 3: neighbours moved" in out) == (0, True)
    assert "pseudo_label_ll/cat" in lines(whole)[-1]
    assert command(f"--workdir={halves}", *flags, "--steps=5")[0] == 0
    # What a killed process wrote beyond its last checkpoint is dropped.
    with (halves / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "loss/generator": 1.0}\n{"step": 1')
    assert command(f"--workdir={halves}", *flags)[0] == 0
    a, b = (Run.open(folder).load_states()[0] for folder in (whole, halves))
    assert int(b.step) == 10
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)
    assert lines(whole) == lines(halves)


@pytest.fixture(scope="module")
def resident(tmp_path_factory, data_dir):
    """The run of `trained`, but in this process, which has four devices."""
    from tests.conftest import TINY, run_program

    workdir = tmp_path_factory.mktemp("resident")
    flags = [f"--{name}={value}" for name, value in TINY.items()]
    flags += [f"--workdir={workdir}", f"--data_dir={data_dir}"]
    assert (
        run_program(*flags, "--data_placement=resident", "--evaluators=clustering")[0]
        == 0
    )
    return workdir


def test_eight_devices_have_the_numbers_of_four(trained, resident):
    eight, four = lines(trained[0]), lines(resident)
    assert [row.keys() for row in eight] == [row.keys() for row in four]
    for name, value in four[0].items():
        assert eight[0][name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.long
def test_a_streamed_run_equals_a_resident_one(resident, command, tiny_flags, tmp_path):
    flags = [
        f"--workdir={tmp_path}",
        *tiny_flags,
        "--data_placement=stream",
        "--profile",
    ]
    code, out, _ = command(*flags)
    assert code == 0
    assert lines(tmp_path) == lines(resident)
    assert re.search(r"input [\d,]+ images/s, [\d.]+% of the time waited", out)
    assert re.search(r"[\d.]+% of the roofline", out)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


@pytest.fixture(scope="module")
def members(tmp_path_factory, data_dir):
    """Three seeds at once, in a process of its own; stopped and continued half way."""
    from tests.conftest import TINY

    workdir = tmp_path_factory.mktemp("members") / "run"
    command = [sys.executable, "-m", "infogan_jax.main", f"--workdir={workdir}"]
    command += [f"--{k}={v}" for k, v in TINY.items()]
    command += [
        f"--data_dir={data_dir}",
        "--seed=4",
        "--num_seeds=3",
        "--sample_every=0",
    ]
    for steps in (5, 10):
        done = subprocess.run(
            [*command, f"--steps={steps}"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
    return workdir, done.stdout


@pytest.mark.long
def test_members_are_told_apart_and_one_is_chosen(members):
    workdir, said = members
    assert "continuing from step 5" in said
    assert "accuracy of 3 seeds: median" in said
    table = json.loads((workdir / "members.json").read_text())
    rows = table["members"]
    assert [row["seed"] for row in rows] == [4, 5, 6]
    assert f"chosen without labels: seed {table['chosen']}" in said
    best = max(rows, key=lambda row: row["score"])
    assert table["chosen"] == best["seed"]
    assert sorted(row["rank"] for row in rows)[0] == 1
    for row in rows:
        folder = workdir / f"seed_{row['seed']}"
        assert [line["step"] for line in lines(folder)] == [5, 10]
        assert (folder / "figures" / "categories.png").exists()


@pytest.mark.long
def test_a_member_is_the_run_of_its_seed(members, command, tiny_flags, tmp_path):
    workdir, _ = members
    alone = tmp_path / "alone"
    flags = [*tiny_flags, "--seed=5", "--sample_every=0"]
    assert command(f"--workdir={alone}", *flags)[0] == 0
    for mine, theirs in zip(lines(workdir / "seed_5"), lines(alone), strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            np.testing.assert_allclose(value, theirs[name], rtol=2e-2, atol=2e-2)


@pytest.mark.long
def test_pictures_of_one_member(members, command, tmp_path):
    workdir, _ = members
    here = ["--mode=sample", f"--workdir={workdir}", "--num_samples=3"]
    chosen = json.loads((workdir / "members.json").read_text())["chosen"]
    for name, flags in (("a", []), ("b", [f"--member={chosen}"])):
        assert command(*here, *flags, f"--output={tmp_path / name}.npy")[0] == 0
    a, b = np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy")
    np.testing.assert_array_equal(a, b)
    code, _, error = command(*here, "--member=9", f"--output={tmp_path / 'c.npy'}")
    assert (code, "expected one of [4, 5, 6]" in error) == (2, True)


def test_a_classifier_learns_with_labels(classifier):
    workdir, said = classifier
    assert "held-out images right" in said
    results = json.loads((workdir / "evaluation.json").read_text())
    assert results["accuracy"] > 0.3
    assert np.trace(results["table"]) == pytest.approx(1000 * results["accuracy"])
    assert (workdir / "figures" / "confusion.png").exists()


@pytest.mark.long
def test_a_classifier_measures_an_infogan(classifier, trained, command, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    here = ["--mode=evaluate", f"--workdir={workdir}"]
    everything = (
        "--evaluators=clustering,code_auc,conditional_accuracy,fidelity,traversal"
    )
    assert command(*here, everything, f"--eval_classifier={classifier[0]}")[0] == 0
    found = json.loads((workdir / "evaluation.json").read_text())
    assert np.sum(found["conditional_accuracy"]["cat"]["table"]) == 10_000
    assert 0 <= found["conditional_accuracy"]["cat"]["conditional_accuracy"] <= 1
    assert found["fidelity"]["extractor"].startswith("classifier ")
    assert (
        found["fidelity"]["generated"]["fid"]
        > found["fidelity"]["real_reference"]["fid"]
    )
    assert set(found["traversal"]) == {"uniform1", "uniform2"}
    assert (workdir / "figures" / "code_auc_9.png").exists()
    page = (workdir / "report.html").read_text()
    assert "--mode=evaluate" in page and f"--eval_classifier={classifier[0]}" in page
    assert f"AUC {found['code_auc']['9']['auc']:.3f} by " in page
    # Measured again in part: the rest is kept, and class names with it
    code, out, _ = command(*here, "--evaluators=pose_r2")
    assert (code, "have their category's class" in out) == (0, True)
    after = json.loads((workdir / "evaluation.json").read_text())
    assert set(after) == {*found, "pose_r2"}


def test_runs_of_the_wrong_kind(classifier, trained, command, tiny_flags, tmp_path):
    infogan, labelled, stranger = trained[0], classifier[0], tmp_path / "stranger"
    shutil.copytree(labelled, stranger)
    saved = json.loads((stranger / "config.json").read_text())
    saved["class_names"][3] = "trouser"
    (stranger / "config.json").write_text(json.dumps(saved))
    for flags, told in (
        (["--mode=evaluate", f"--workdir={labelled}"], "expected one of an InfoGAN"),
        (
            ["--mode=train_classifier", f"--workdir={infogan}", *tiny_flags],
            "of a classifier",
        ),
        (
            [
                *("--mode=evaluate", f"--workdir={infogan}"),
                *("--evaluators=conditional_accuracy", f"--eval_classifier={infogan}"),
            ],
            "expected one of a classifier",
        ),
        (
            [
                "--mode=evaluate",
                f"--workdir={infogan}",
                "--evaluators=conditional_accuracy",
            ],
            "train one by --mode=train_classifier",
        ),
        (
            [
                *("--mode=evaluate", f"--workdir={infogan}"),
                *("--evaluators=fidelity", f"--eval_classifier={stranger}"),
            ],
            "'trouser'",
        ),
    ):
        code, _, error = command(*flags)
        assert (code, error.count("\n")) == (2, 1), error
        assert told in error


def test_restart_keeps_the_former_run_and_a_run_its_newest_states(
    command, tiny_flags, tmp_path
):
    workdir = tmp_path / "run"
    small = [*tiny_flags, *BRIEF, "--max_to_keep=1", f"--workdir={workdir}"]
    assert command(*small)[0] == 0
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == ["10"]
    assert command(*small, "--steps=5")[0] == 0  # it is past them already
    assert command(*small, "--seed=1", "--steps=5", "--restart")[0] == 0
    assert Run.open(tmp_path / "run.1").config.seed == 0
    assert Run.open(workdir).config.seed == 1


def test_every_fixed_flag_is_named_when_it_changes(trained):
    workdir, _ = trained
    saved = Run.open(workdir).config
    assert "steps" not in fixed_fields()
    for name in fixed_fields():
        value = getattr(saved, name)
        other = f"{value}x" if isinstance(value, str) else value + 1
        changed = copy.copy(saved)  # not checked: it need not work
        object.__setattr__(changed, name, other)
        with pytest.raises(
            UserError,
            match=f"--{name}={re.escape(str(other))}: the run in .* --restart",
        ):
            Run.check(workdir, changed, False, INFOGAN)


def test_a_signal_saves_and_the_same_command_goes_on(data_dir, tmp_path, tiny_flags):
    workdir = tmp_path / "run"
    command = [sys.executable, "-m", "infogan_jax.main", f"--workdir={workdir}"]
    command += [f"--data_dir={data_dir}", *tiny_flags, "--steps=100000"]
    command += ["--checkpoint_every=50000", "--sample_every=0"]
    process = subprocess.Popen(command, stdout=-1, stderr=-1, text=True)
    for _ in range(600):
        time.sleep(0.1)
        written = workdir / "metrics.jsonl"
        if written.exists() and written.stat().st_size:
            break
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step" in error
    assert "all saved" in error
    (state,) = Run.open(workdir).load_states()
    assert int(state.step) >= lines(workdir)[-1]["step"] > 0


def test_a_value_that_is_not_finite_stops_the_run(command, tiny_flags, tmp_path):
    code, _, error = command(
        f"--workdir={tmp_path / 'run'}", *tiny_flags, "--d_learning_rate=1e38"
    )
    assert code == 1
    assert re.search(r"not finite by step \d+ \(in .*\); nothing was saved yet", error)
    assert "--d_learning_rate" in error


def test_a_full_disk_stops_a_run_which_goes_on_later(
    command, tiny_flags, tmp_path, monkeypatch
):
    from infogan_jax.run import checkpoints

    flags = [*tiny_flags, *BRIEF, f"--workdir={tmp_path}"]
    assert command(*flags, "--steps=5")[0] == 0
    with monkeypatch.context() as full:
        full.setattr(checkpoints, "_MIN_FREE", 1e12)
        code, _, error = command(*flags)
    assert code == 1
    assert error.count("\n") == 1
    assert "MiB are free, and saving needs" in error
    code, out, _ = command(*flags)
    assert code == 0
    assert "continuing from step 5" in out


def test_evaluate_anew(trained, command, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))  # the run's own folder is used
    workdir, _ = trained
    path = workdir / "evaluation.json"
    before, form = jax.tree.flatten(json.loads(path.read_text()))
    code, out, _ = command("--mode=evaluate", f"--workdir={workdir}")
    assert code == 0
    assert not any(tmp_path.iterdir())
    assert "right by one-to-one matching" in out
    after, form_after = jax.tree.flatten(json.loads(path.read_text()))
    assert form_after == form
    # The run was compiled with all optimisations, which round otherwise
    near = [
        x if isinstance(x, str) else pytest.approx(x, rel=1e-4, abs=1e-4)
        for x in before
    ]
    assert after == near


@pytest.mark.long
def test_the_report_is_one_file(trained, members, command):
    workdir, said = trained
    assert re.search(r"the report is /\S+/run/report\.html", said)
    page = (workdir / "report.html").read_text()
    assert "--dataset" not in page  # as everything else that is by default
    assert "--architecture=mnist_tiny" in page
    code, _, _ = command(
        *("--mode=report", f"--workdir={workdir}", f"--baseline={members[0]}")
    )
    assert code == 0
    compared = (workdir / "report.html").read_text()
    assert compared.count("<img") == page.count("<img") + 1
    many = (members[0] / "report.html").read_text()
    chosen = json.loads((members[0] / "members.json").read_text())["chosen"]
    assert f"Seed {chosen} is chosen without labels" in many
    assert many.count('<tr class="chosen">') == 1
    for text in (page, compared, many):
        sources = re.findall(r'(?:src|href)="([^"]*)"', text)
        assert sources
        assert all(source.startswith("data:image/") for source in sources)


def test_an_error_of_ours_is_no_damage(command, trained, monkeypatch):
    """A traceback, by which it can be found, and no advice to restore a file."""

    def broken(page):
        raise TypeError("ours")

    monkeypatch.setattr("infogan_jax.reporting.html._result", broken)
    with pytest.raises(TypeError, match="ours"):
        command("--mode=report", f"--workdir={trained[0]}")


def test_a_report_that_cannot_be(trained, command, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    workdir = tmp_path / "run"
    here = ["--mode=report", f"--workdir={workdir}"]
    (workdir / "evaluation.json").unlink()
    code, _, error = command(*here)
    assert (code, error.count("\n"), "not evaluated yet" in error) == (2, 1, True)
    (workdir / "evaluation.json").write_text("{")
    code, _, error = command(*here)
    assert (code, error.count("\n"), "--mode=evaluate again" in error) == (2, 1, True)
    code, _, error = command(
        *("--mode=report", f"--workdir={trained[0]}", f"--baseline={tmp_path}")
    )
    assert (code, error.count("\n"), "no config.json" in error) == (2, 1, True)


def test_generate(trained, command, tmp_path):
    workdir, _ = trained
    here = ["--mode=sample", f"--workdir={workdir}"]
    array = tmp_path / "a.npy"
    code, _, _ = command(
        *here, "--fix=cat=7,uniform1=-2..2", "--num_samples=5", f"--output={array}"
    )
    assert code == 0
    images = np.load(array, allow_pickle=False)
    assert images.shape == (5, 28, 28, 1)
    again = tmp_path / "b.npy"
    command(*here, "--fix=uniform1=-2..2,cat=7", "--num_samples=5", f"--output={again}")
    np.testing.assert_array_equal(images, np.load(again))
    planes = tmp_path / "c.TIF"
    flags = ("--fix=uniform1=-2..2,cat=7", "--num_samples=5", f"--output={planes}")
    assert command(*here, *flags)[0] == 0
    np.testing.assert_array_equal(images[..., 0], tifffile.imread(planes))
    code, _, _ = command(
        *here, "--fix=class=three", "--num_samples=4", f"--output={tmp_path / 'd'}"
    )
    assert code == 0
    assert len(list((tmp_path / "d").glob("*.png"))) == 4
    code, _, _ = command(*here, "--fix=cat=0..9,uniform2=-1..1", "--num_samples=3")
    assert code == 0
    assert (workdir / "generated_001.png").exists()


@pytest.mark.parametrize(
    "flags, told",
    [
        (
            ["--evaluators=conditional_accuracy"],
            "--eval_classifier: expected the work directory",
        ),
        (
            ["--eval_classifier=/nowhere"],
            "--eval_classifier=/nowhere: /nowhere: has no config",
        ),
        (["--baseline=/nowhere"], "--baseline=/nowhere: /nowhere: has no config"),
    ],
)
def test_what_cannot_be_measured_is_told_before_training(
    command, tiny_flags, tmp_path, flags, told
):
    code, said, error = command(*tiny_flags, f"--workdir={tmp_path / 'a'}", *flags)
    assert (code, error.count("\n"), told in error) == (2, 1, True)
    assert "step" not in said and not (tmp_path / "a" / "config.json").exists()


def test_settings_may_be_named_one_by_one(trained, command, tmp_path):
    here = ["--mode=sample", f"--workdir={trained[0]}", "--num_samples=3"]
    a, b = (tmp_path / f"{name}.npy" for name in "ab")
    command(*here, "--fix=cat=7,uniform1=1", f"--output={a}")
    command(*here, "--fix=cat=7", "--fix=uniform1=1", f"--output={b}")
    np.testing.assert_array_equal(np.load(a), np.load(b))
    code, _, error = command(*here, f"--output={tmp_path / 'x.jpg'}")
    assert code == 2 and "expected FILE.png, FILE.tif, FILE.npy or a folder" in error
    code, _, error = command("--mode=encode", here[1], f"--output={tmp_path}/x.xlsx")
    assert code == 2 and "expected FILE.csv" in error


def test_classes_measured_at_another_step_are_not_used(trained, command, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    file = workdir / "evaluation.json"
    results = json.loads(file.read_text())
    file.write_text(json.dumps(results | {"step": results["step"] - 1}))
    code, _, error = command("--mode=sample", f"--workdir={workdir}", "--fix=class=3")
    assert code == 2 and "no category has a class at the newest checkpoint" in error


def test_the_map_of_classes_is_the_one_asked(trained):
    from infogan_jax.apps.sample import parse_fixed
    from infogan_jax.core.spec import parse_spec

    spec = parse_spec("cat:10,uniform:2,noise:3")
    (setting,) = parse_fixed("class=three", spec, 1, {"3": 6})
    np.testing.assert_array_equal(setting.values, np.eye(10)[[6]])


WRONG = [
    (["--dataset=nonesuch"], "expected one of"),
    (["--architecture=huge"], "['dcgan', 'dcgan_plain', 'mnist',"),
    (["--architecture=dcgan_smooth"], "gone since 0.2.0; train by residual"),
    (["--gan_loss=kind"], "['hinge', 'least_squares', 'non_saturating',"),
    (
        ["--evaluators=guess"],
        "['appearance', 'clustering', 'code_auc', 'conditional_accuracy',",
    ),
    (["--augment=speed"], "expected one of"),
    (["--dtype=int8"], "expected one of"),
    (["--consistency_fraction=1.5"], "--consistency_fraction=1.5: expected 0 to 1"),
    (
        ["--gan_on_copies=1", "--augment=none", "--real_mi_weight=0"],
        "--gan_on_copies=1.0: needs an --augment",
    ),
    (["--data_placement=tape"], "expected one of"),
    (["--mode=dance"], "expected one of"),
    (["--codes=dog:3"], "unknown kind 'dog'"),
    (["--codes=cat:1"], "out of range"),
    (["--codes=cat:x"], "whole number"),
    (["--codes="], "empty"),
    (["--codes=noise:9", "--real_mi_weight=0"], "needs a code"),
    (["--codes=uniform:2"], "needs a categorical code"),
    (["--info_weight=0"], "plain GAN that Q watches"),
    (["--num_seeds=0"], "expected 1 or more"),
    (["--num_seeds=1000000", "--architecture=mnist"], "GiB are available"),
    (["--augment=none"], "needs augmented copies"),
    (
        ["--pseudo_label_step=5", "--real_mi_weight=0"],
        "Q learns pseudo-labels in place",
    ),
    (["--equivariance_weight=1", "--codes=cat:10,noise:9"], "a continuous code"),
    (["--image_size=30"], "multiple of 4"),
    (["--batch_size=18"], "--batch_size=18"),
    (["--batch_size=5000"], "training images"),
    (["--d_learning_rate=nan"], "expected a finite number, 0 or more"),
    (["--steps=0"], "expected 1 or more"),
    (["--adam_b1=1"], "below 1"),
    (["--seed=-1"], "expected 0 or more"),
    (["--seed=99999999999999999999"], "expected less than 2147483648"),
    (
        ["--dry_run", "--evaluators=guess"],
        "['appearance', 'clustering', 'code_auc', 'conditional_accuracy',",
    ),
    (["stray"], "expected flags only"),
    (["--num_processes=2"], "expected 1 and 0 without --coordinator_address=HOST:PORT"),
    (["--process_id=1"], "expected 1 and 0 without --coordinator_address=HOST:PORT"),
    (["--codes=noise:5", "--info_weight=0", "--real_mi_weight=0"], "a code to read"),
    (["--codes=cat:20000"], "from 2 to 4096"),
    (["--image_size=30000"], "expected 8 to 1024"),
    (["--composite=zzz"], "--composite=zzz: unknown color"),
    (["--data_dir=~no-such-user/x"], "--data_dir=~no-such-user/x: "),
    (["--dataset=folder:"], "is no folder"),
    (["--augment=affine:shift=2"], "expected 0 to 1"),
    (["--augment=affine:shift=1:shift=1"], "gives shift twice"),
    (["--download_url=ftp"], "--download_url=ftp: expected an address"),
    (["--download_url=http://[::1"], "expected an address"),
    (["--composite=a\nb"], "--composite=a\\x0ab"),
    (["--group_csv=a\0b"], "holds a zero byte"),
    (["--dataset=mnist", "--download_url=http://127.0.0.1:9"], "--dataset=mnist_5k"),
    (
        ["--dataset=mnist", "--download_url=http://127.0.0.1:9"],
        "prepared by --data_dir",
    ),
]


@pytest.mark.parametrize(("flags", "told"), WRONG, ids=lambda x: " ".join(x)[:40])
def test_a_mistake_is_one_line_and_writes_nothing(
    command, tiny_flags, tmp_path, flags, told
):
    workdir = tmp_path / "run"
    code, _, error = command(f"--workdir={workdir}", *tiny_flags, *flags)
    assert code == 2
    assert error.count("\n") == 1, error
    assert error.startswith("infogan_jax: ")
    assert told in error
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--steps=many", "flag --steps=many: expected a whole number"),
        ("--stepz=3", "'stepz'. Did you mean: steps ?"),
        ("--flagfile=none", "no such file; the names of those that are shipped are"),
        ("--tensorboard=perhaps", "expected true or false"),
    ],
)
def test_a_flag_that_cannot_be_read_is_one_line(capsys, flag, told):
    from absl.testing import flagsaver

    from infogan_jax import main

    with flagsaver.flagsaver(), pytest.raises(SystemExit) as end:
        main.parse_flags(["main", flag])
    error = capsys.readouterr().err
    assert (end.value.code, error.count("\n")) == (2, 1)
    assert told in error


def test_work_directories_that_cannot_be(command, tiny_flags, tmp_path):
    code, _, error = command(*tiny_flags)
    assert (code, "--workdir" in error) == (2, True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    code, _, error = command(f"--workdir={tmp_path / 'other'}", *tiny_flags)
    assert (code, "no config.json" in error) == (2, True)
    (tmp_path / "file").write_text("mine")
    code, _, error = command(f"--workdir={tmp_path / 'file'}", *tiny_flags)
    assert (code, "cannot be written" in error) == (2, True)
    code, _, error = command("--workdir=/proc/run", *tiny_flags)
    assert (code, "cannot be written" in error) == (2, True)
    code, _, error = command("--mode=evaluate", f"--workdir={tmp_path / 'none'}")
    assert (code, "train there first" in error) == (2, True)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("cat=10", "whole number from 0 to 9"),
        ("cat=1.5", "whole number from 0 to 9"),
        ("uniform3=1", "['cat', 'uniform1', 'uniform2'], or class=NAME"),
        ("uniform1=x", "a number or a range"),
        ("uniform1=nan", "expected a number from -1000 to 1000"),
        ("uniform1=1e300", "expected a number from -1000 to 1000"),
        ("uniform1=-1..1,uniform2=-1..1 --num_samples=99999", "images by two ranges"),
        ("cat=1 --seed=4294967297", "--seed=4294967297: expected 0 or more, below"),
        ("uniform1", "a number or a range"),
        ("noise=1", "expected NAME=VALUE"),
        ("class=eleven", "expected a class"),
        ("cat=1,cat=2", "twice"),
    ],
)
def test_wrong_settings_of_generate(trained, command, tmp_path, setting, told):
    out = tmp_path / "out.png"
    setting, *more = setting.split(" ")
    flags = [f"--workdir={trained[0]}", f"--fix={setting}", f"--output={out}", *more]
    code, _, error = command("--mode=sample", *flags)
    assert (code, error.count("\n")) == (2, 1)
    assert told in error
    assert not out.exists()


def test_a_run_whose_config_is_another_s(trained, command, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace("mnist_tiny", "mnist_half"))
    code, _, error = command("--mode=sample", f"--workdir={run}")
    assert (code, error.count("\n")) == (2, 1)
    assert "config.json describes (" in error


def test_other_data_are_not_measured(trained, command, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    path = run / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"data": "0123456789ab"}))
    before = (run / "evaluation.json").read_text()
    code, _, error = command("--mode=evaluate", f"--workdir={run}")
    assert (code, error.count("\n")) == (2, 1)
    assert "has changed since the run" in error
    assert (run / "evaluation.json").read_text() == before


def test_the_longest_log_interval_takes_no_memory(command, tiny_flags, tmp_path):
    flags = [*tiny_flags, "--log_every=1000000000", "--steps=5"]
    assert command(f"--workdir={tmp_path / 'run'}", *flags)[0] == 0


def test_a_run_in_the_folder_where_one_is(command, tiny_flags, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    for more in ([], ["--restart", "--seed=7"]):
        assert command(*tiny_flags, *BRIEF, "--steps=5", "--workdir=.", *more)[0] == 0
    for name, seed in (("run.1", 0), ("run", 7)):
        assert Run.open(tmp_path / name).config.seed == seed


def test_flags_that_a_saved_run_does_not_use_are_told(trained, command, tmp_path):
    flags = [f"--workdir={trained[0]}", f"--output={tmp_path / 'x.png'}", "--seed=3"]
    code, out, _ = command("--mode=sample", *flags, "--architecture=dcgan")
    assert code == 0
    assert "note: --architecture=dcgan is not used, the run has mnist_tiny" in out
    assert "--seed" not in out and "--output" not in out
    out = command(
        "--mode=report", flags[0], "--num_samples=3", "--noopen_browser", "--dry_run"
    )[1]
    assert "note: --num_samples is not used by --mode=report" in out
    assert "note: --open_browser is not used by --mode=report" in out


def test_dry_run_does_nothing(trained, command, tiny_flags, tmp_path):
    before = sorted(path.stat().st_mtime_ns for path in trained[0].rglob("*"))
    for mode in "evaluate", "report", "sample":
        flags = f"--mode={mode}", f"--workdir={trained[0]}", "--dry_run"
        code, out, _ = command(*flags)
        assert (code, f"{mode} in {trained[0]}" in out) == (0, True)
    assert before == sorted(path.stat().st_mtime_ns for path in trained[0].rglob("*"))
    code, out, _ = command(f"--workdir={tmp_path / 'run'}", "--dry_run", *tiny_flags)
    assert code == 0
    assert '"architecture": "mnist_tiny"' in out
    assert not (tmp_path / "run").exists()


def test_a_config_survives_json():
    config = Config(seed=3, codes="cat:4,noise:2")
    assert Config.from_json(config.to_json()) == config
    for named, share in ("mutual", 0), ("agreement", 1):  # as earlier runs have it
        earlier = json.dumps({"real_information": named})
        assert Config.from_json(earlier).consistency_fraction == share
    for text in ("", "[]", '{"steps": "many"}', '{"stepz": 3}'):
        with pytest.raises(Exception, match="unreadable config"):
            Config.from_json(text)


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    """40 images of two channels and 16 bits, a file for each."""
    import tifffile

    folder = tmp_path_factory.mktemp("plate")
    rng = np.random.default_rng(0)
    for i in range(40):
        for name in ("a", "b"):
            image = rng.integers(1000, 2001, (16, 16)).astype(np.uint16)
            tifffile.imwrite(folder / f"{i}_ch{name}.tif", image)
    return folder


@pytest.mark.long
def test_two_channels_from_a_folder_to_pictures(plate, command, tmp_path):
    run = tmp_path / "run"
    flags = [
        *(f"--dataset=folder:{plate}", f"--workdir={run}", f"--data_dir={tmp_path}"),
        *("--file_pattern={id}_ch{channel}.tif", "--percentiles=0,100", "--align=axis"),
        *(
            "--architecture=dcgan",
            "--base_channels=2",
            "--codes=cat:2,uniform:1,noise:4",
        ),
        *(
            "--augment=cells:isolate_channel=2",
            "--real_mi_weight=1",
            "--batch_size=8",
            "--steps=2",
        ),
        *("--log_every=1", "--sample_every=1", "--notensorboard"),
        "--evaluators=clustering,code_auc,traversal,fidelity,pose_r2,label_free,"
        "appearance,two_sample",
    ]
    code, out, error = command(*flags)
    assert (code, error) == (0, "")
    assert "discriminator: " in out and "MFLOP an image" in out
    found = json.loads((run / "evaluation.json").read_text())
    assert "area of b" in found["traversal"]["uniform"]["r2"]
    assert Run.open(run).config.composite.startswith("a=red,b=")
    assert 0 <= found["pose_r2"]["cat"]["r2"] <= 1
    assert 0 <= found["fidelity"]["near_duplicate_rate"] <= 1
    views = {
        f"{name}_{view}"
        for name in ("generated", "real_reference")
        for view in ("texture", "mask", "centre")
    }
    assert views < set(found["fidelity"])
    assert "expected 40 or more" in found["appearance"]["skipped"]
    assert found["two_sample"] == {"skipped": "4 held-out images; expected 100 or more"}
    assert found["code_auc"] == {"skipped": "the dataset has no labels of two classes"}
    # A composite and both channels, below each other where rows are long
    with Image.open(run / "figures" / "real.png") as real:
        size = real.size
    assert size[0] == 12 * 66 - 2
    with Image.open(run / "figures" / "nearest.png") as nearest:
        assert nearest.width > size[0] // 2 and nearest.height == size[1]
    with Image.open(run / "figures" / "traverse_cat.png") as narrow:
        assert narrow.width == 3 * (2 * 66 - 2) + 2 * 16
    with Image.open(run / "figures" / "training.gif") as gif:
        assert gif.n_frames == 3
    with Image.open(run / "frames" / "00000002.png") as frame:
        assert frame.size == (32, 2 * 12 * 16)
    out = tmp_path / "some.npy"
    here = ["--mode=sample", f"--workdir={run}", "--num_samples=3"]
    assert command(*here, f"--output={out}")[0] == 0
    values = np.load(out)
    assert values.shape == (3, 16, 16, 2)
    assert 1000 <= values.min() < values.max() <= 2000  # the user's units
    # Data that have changed do not go on as if they had not
    (plate / "0_cha.tif").write_bytes((plate / "1_cha.tif").read_bytes())
    code, out, error = command(*flags, "--steps=4")
    assert code == 2 and "has changed since the run in" in error


def test_wrong_settings_for_channels(plate, command, tmp_path):
    flags = [f"--dataset=folder:{plate}", f"--workdir={tmp_path / 'run'}"]
    flags += ["--file_pattern={id}_ch{channel}.tif", "--architecture=dcgan"]
    flags += ["--batch_size=8", f"--data_dir={tmp_path}", "--steps=1"]
    for more, told in (
        (["--augment=cells:isolate_channel=3"], "no channel 3"),
        (["--composite=red,blu"], "blu"),
        (["--image_size=18", "--architecture=resnet"], "choose one by --image_size"),
        (["--image_size=7"], "expected 8 to 1024"),
        (["--resize_mode=squeeze"], "expected one of"),
        (["--align=north"], "expected one of"),
        (["--percentiles=9"], "two numbers"),
        (["--filter_classifier=somewhere"], "expected both or neither"),
        (
            ["--filter_classifier=x", "--filter_class=y", "--filter_threshold=1"],
            "below 1",
        ),
        (["--dataset=folder:nowhere"], "is no folder"),
    ):
        code, _, error = command(*flags, *more)
        assert (code, error.count("\n")) == (2, 1), error
        assert told in error
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_classifier_filters_images(classifier, command, tiny_flags, tmp_path):
    run = tmp_path / "run"
    flags = [
        *tiny_flags,
        f"--workdir={run}",
        "--steps=5",
        f"--filter_classifier={classifier[0]}",
    ]
    code, out, _ = command(*flags, "--filter_class=3", "--filter_threshold=0.15")
    assert code == 0
    told = re.search(r"([\d,]+) of 4,000 training images are 3", out)
    assert 16 <= int(told[1].replace(",", "")) < 2000
    assert (run / "figures" / "filter.png").exists()
    workdir = f"--workdir={tmp_path / 'other'}"
    for more, told in (
        (["--filter_class=trouser"], "expected one of ['0', '1'"),
        (["--filter_class=3", "--filter_threshold=0.99999"], "choose less, up to 0."),
        (["--filter_class=3", "--image_size=32"], "is of images (28, 28, 1)"),
        (["--filter_class=3", f"--filter_classifier={run}"], f"{run}: {run}: is the"),
    ):
        code, _, error = command(*flags, workdir, *more)
        assert (code, error.count("\n")) == (2, 1), error
        assert told in error
