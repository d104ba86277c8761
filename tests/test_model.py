"""Parts of one's own through the whole way, and what former versions called things."""

import dataclasses
import json
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.research_step import LOGISTIC, Arcsine, Fade, Linear
from infogan_jax import (
    Config,
    UserError,
    build_model,
    flags,
    former,
    make_train_step,
    train,
)
from infogan_jax.build import build_networks
from infogan_jax.core.latents import Categorical, Noise, param_dim
from infogan_jax.core.objective import D_TERMS
from infogan_jax.run.directory import Run
from tests.conftest import TINY

DATA = Path(__file__).parent / "data"


def brightness(seen):
    """A term of one's own: the mean of the generated images."""
    mean = seen.batch.fake.mean()
    return 0.1 * mean, {"loss/brightness": mean}


def own_model(config, image_shape):
    spec = (Categorical("kind", 3), Arcsine("ends"), Noise("noise", 4))
    networks = build_networks(config, image_shape, param_dim(spec))
    return build_model(
        config,
        image_shape,
        spec=spec,
        networks=networks._replace(recognizer=Linear(param_dim(spec))),
        gan_loss=LOGISTIC,
        augment=Fade(),
        d_terms=(*D_TERMS, brightness),
    )


def test_parts_of_ones_own_work_in_a_whole_run(data_dir, tmp_path):
    config = Config(**TINY | {"steps": 5}, data_dir=str(data_dir))
    logged = []

    def on_log(step, members):
        logged.append((step, ["loss/brightness" in row for row in members]))

    state = train(config, tmp_path, make_model=own_model, on_log=on_log)
    assert logged == [(5, [True])]
    assert int(state.step) == 5
    rows = [
        json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().split("\n")[:-1]
    ]
    wanted = {"mi_bound/ends", "mi_real/kind", "equivariance/ends", "loss/brightness"}
    assert wanted <= set(rows[-1])
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"categories.png", "traverse_kind.png", "traverse_ends.png"} <= figures
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert np.shape(found["clustering"]["kind"]["table"]) == (3, 10)
    assert set(found["traversal"]) == {"ends"}
    assert set(found["label_free"]) == {"kind", "ends", "warnings"}


def test_equal_settings_give_equal_models():
    config = Config(architecture="mnist_tiny", augment="digits")
    one, other = (build_model(config, (28, 28, 1)) for _ in range(2))
    assert one == other and hash(one) == hash(other)
    slower = dataclasses.replace(config, g_learning_rate=1e-4)
    assert build_model(slower, (28, 28, 1)) != one
    members = dataclasses.replace(config, seed=7)
    assert build_model(members, (28, 28, 1)) == one


def test_networks_share_statistics_over_an_axis_only_if_asked():
    model = build_model(Config(architecture="mnist_tiny"), (28, 28, 1))
    assert model.networks.generator.axis_name is None
    spread = model.on_axis("batch")
    assert {net.axis_name for net in spread.networks} == {"batch"}
    assert spread.on_axis(None) == model


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"real_mi_weight": 1.0}, "needs augmented copies"),
        ({"steps": "many"}, "steps='many': expected a value of int"),
        ({"steps": None}, "steps=None: expected a value of int"),
        ({"tensorboard": 1}, "tensorboard=1: expected a value of bool"),
        ({"adam_b1": 1.0}, "--adam_b1=1.0: expected 0 or more, below 1"),
        ({"lr_decay_fraction": 1.5}, "expected 0 to 1"),
        ({"codes": "cat:3,cat:3", "info_weight": -1.0}, "--info_weight=-1.0"),
        ({"evaluators": "guess"}, "--evaluators=guess"),
    ],
)
def test_a_config_that_cannot_work_is_refused_when_made(settings, message):
    with pytest.raises(UserError) as error:
        Config(**settings)
    assert message in str(error.value)


def test_a_config_of_a_former_run_may_be_one_that_no_run_begins_with(tmp_path):
    config = Config(penalty="wgan_gp", penalty_weight=10.0)
    with pytest.raises(UserError, match="D of --architecture=mnist normalises over"):
        config.check_trainable()
    with pytest.raises(UserError, match="D of --architecture=mnist normalises over"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_seeds_of_all_members_are_int32():
    last = 2**31 - 4
    assert Config(seed=last, num_seeds=4).seed == last
    with pytest.raises(UserError, match="--num_seeds=5: expected a sum of at most"):
        Config(seed=last, num_seeds=5)


def test_a_config_takes_numbers_of_numpy_and_paths():
    config = Config(seed=np.int64(3), g_learning_rate=1, data_dir=Path("/tmp"))
    assert (config.seed, type(config.seed)) == (3, int)
    assert (config.g_learning_rate, type(config.g_learning_rate)) == (1.0, float)
    assert config.data_dir == "/tmp"


def test_settings_without_effect_are_named(command, tmp_path):
    config = Config(entropy_weight=4.0, penalty="wgan_gp")
    assert config.without_effect() == ["entropy_weight", "penalty"]
    assert Config(**TINY).without_effect() == []
    flags = ["--dry_run", f"--workdir={tmp_path}", "--entropy_weight=4"]
    _, out, _ = command(*flags)
    assert "note: --entropy_weight=4.0 has no effect in this run" in out


# Former names


@pytest.mark.parametrize("name", sorted(former.FLAGS))
def test_a_former_flag_is_an_error_that_names_the_new_one(command, name, tmp_path):
    code, _, error = command(f"--workdir={tmp_path / 'run'}", f"--{name}=1")
    assert (code, error.count("\n")) == (2, 1)
    assert error == f"infogan_jax: --{name}: is now --{former.FLAGS[name]}\n"


def test_no_former_flag_is_a_flag_of_today():
    assert not set(former.FLAGS) & set(flags.FLAGS)


@pytest.mark.parametrize("flag", ["images", "masks", "input_dir"])
def test_images_that_another_mode_would_read_are_not_passed_over(
    command, flag, tmp_path
):
    code, _, error = command(f"--workdir={tmp_path / 'run'}", f"--{flag}=cells")
    assert (code, error.count("\n")) == (2, 1)
    assert f"--{flag}: is for --mode=" in error and "--dataset=folder:" in error
    assert not (tmp_path / "run").exists()


def test_a_former_mode_and_a_former_switch_are_errors_too(command, tmp_path):
    for mode, today in former.MODES.items():
        code, _, error = command(f"--workdir={tmp_path / 'run'}", f"--mode={mode}")
        assert (code, f"is now --mode={today}" in error) == (2, True)
    assert "--noopen: is now --open_browser" in command("--noopen")[2]


def test_a_former_run_is_reported_sampled_and_encoded(command, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(DATA / "run_2", workdir)
    config = Run.open(workdir).config
    assert (config.augment, config.real_mi_weight) == ("digits:elastic=0", 1.0)
    assert config.evaluators == "clustering,label_free,traversal"
    here = f"--workdir={workdir}"
    code, _, error = command("--mode=report", here)
    assert (code, error) == (0, "")
    page = (workdir / "report.html").read_text()
    assert "Seed 0 is chosen without labels" in page and "marginal_entropy" in page
    out = tmp_path / "some.npy"
    code, _, error = command("--mode=sample", here, f"--output={out}")
    assert (code, error, np.load(out).shape) == (0, "", (100, 28, 28, 1))


@pytest.mark.long
def test_a_former_run_continues(command, data_dir, tmp_path):
    """By its own settings, in the words of today."""
    workdir = tmp_path / "run"
    shutil.copytree(DATA / "run_2", workdir)
    saved = json.loads((workdir / "config.json").read_text())
    saved = former.upgrade_config(saved["config"]) | {"data_dir": str(data_dir)}
    saved |= {"steps": 6, "checkpoint_every": 6}
    flags = [f"--{name}={value}" for name, value in saved.items()]
    code, out, error = command(f"--workdir={workdir}", *flags)
    assert (code, error) == (0, "")
    assert "continuing from step 4" in out
    for seed in (0, 1):
        lines = (workdir / f"seed_{seed}" / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        assert [row["step"] for row in rows] == [2, 4, 6]
        assert "pseudo_label_ll/cat" in rows[-1] and "told/cat" in rows[1]


def test_words_of_former_configs_are_those_of_today():
    values = {
        "warp": "cells:alone=2:bend=0.1:darken=1:gain=0",
        "codes": "cat:2,uniform:2:spread=learned",
        "evaluators": "clustering, pose,unlabelled",
        "real_information": "agreement",
    }
    assert former.upgrade_config(values) == {
        "augment": "cells:isolate_channel=2:elastic=0.1:brightness=1:gain=0",
        "codes": "cat:2,uniform:2:sigma=learned",
        "evaluators": "clustering,pose_r2,label_free",
        "consistency_fraction": 1.0,
    }
    today = {"augment": "digits", "steps": 3}
    assert former.upgrade_config(today) == today


def test_measures_of_former_results_are_renamed_but_no_code_is():
    """A code may have the name of a measure."""
    found = {
        "unlabelled": {"balance": {"information_real": 1.0, "balance": 2.0}},
        "fidelity": {"copies": 0.1},
        "detection": {"kind": {"floor": 0.5}},
    }
    assert former.upgrade_evaluation(found) == {
        "label_free": {"balance": {"mi_real": 1.0, "marginal_entropy": 2.0}},
        "fidelity": {"near_duplicate_rate": 0.1},
        "code_auc": {"kind": {"floor": 0.5}},
    }
    row = {"step": 2, "eval/floor/copies/balance": 1.0, "told/copies": 3.0}
    assert former.upgrade_metrics(row) == {
        "step": 2,
        "eval/real_reference/copies/marginal_entropy": 1.0,
        "pseudo_label_ll/copies": 3.0,
    }
    choice = {"chosen": 0, "replicas": [{"seed": 0, "balance": 2.0}]}
    assert former.upgrade_choice(choice) == {
        "chosen": 0,
        "members": [{"seed": 0, "marginal_entropy": 2.0}],
    }


def test_a_network_with_another_output_is_refused_at_init():
    """By its name and shape, where XLA would speak of a dot product."""

    class Flat(nn.Module):
        @nn.compact
        def __call__(self, latents, train):
            return nn.Dense(28)(latents)

    model = build_model(Config(architecture="mnist_tiny"), (28, 28, 1))
    networks = model.networks._replace(generator=Flat())
    wrong = dataclasses.replace(model, networks=networks)
    with pytest.raises(ValueError, match=r"generator.*28, 28, 1"):
        wrong.init(jax.random.key(0))


@pytest.mark.parametrize("dtype", ["int32", "uint16", "bool"])
def test_images_of_other_integers_are_refused(dtype):
    """What their white is, nobody knows: undivided, every pixel would be white."""
    config = Config(architecture="mnist_tiny")
    model = build_model(config, (28, 28, 1))
    state = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((4, 28, 28, 1), dtype)
    for use in (make_train_step(model), model.recognize):
        with pytest.raises(ValueError, match=f"images of {dtype}: expected uint8"):
            jax.eval_shape(use, state, images)


def test_a_batch_that_cannot_be_augmented_is_refused():
    config = Config(architecture="mnist_tiny", augment="digits", augment_every=4)
    model = build_model(config, (28, 28, 1))
    state = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((6, 28, 28, 1), jnp.float32)
    with pytest.raises(ValueError, match=r"6 images .* multiple of augment_every=4"):
        jax.eval_shape(make_train_step(model), state, images)
