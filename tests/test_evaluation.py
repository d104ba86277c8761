import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from infogan_jax import UserError
from infogan_jax.evaluation import clustering


def test_a_renamed_partition_is_perfect():
    labels = np.repeat(np.arange(4), 5)
    found = clustering.measures((labels + 1) % 4, labels, 4, 4)
    assert found["accuracy"] == found["purity"] == 1
    assert found["nmi"] == pytest.approx(1)
    assert found["ari"] == pytest.approx(1)
    assert found["code_to_class"] == [3, 0, 1, 2]
    assert found["warnings"] == []


def test_by_hand():
    #           category 0: 3 of class 0, 1 of class 1; category 1: 2 of class 0
    categories = np.array([0, 0, 0, 0, 1, 1])
    labels = np.array([0, 0, 0, 1, 0, 0])
    found = clustering.measures(categories, labels, 2, 2)
    assert found["table"] == [[3, 1], [2, 0]]
    # One-to-one: 0 -> 0 and 1 -> 1 gives 3; 0 -> 1 and 1 -> 0 gives 1 + 2.
    assert found["accuracy"] == pytest.approx(3 / 6)
    assert found["purity"] == pytest.approx(5 / 6)
    assert found["ari"] == pytest.approx(adjusted_rand_score(labels, categories))
    assert found["warnings"] == [
        "categories [0, 1] share class 0",
        "class 1 has no category of its own",
    ]


def test_more_categories_than_classes_and_an_unused_one():
    labels = np.array([0, 0, 1, 1])
    found = clustering.measures(np.array([0, 1, 2, 2]), labels, 4, 2)
    assert found["accuracy"] == pytest.approx(3 / 4)
    assert found["code_to_class"].count(None) == 2
    assert "category 3 is unused" in found["warnings"]


def test_one_class_is_refused():
    with pytest.raises(UserError, match="two classes"):
        clustering.measures(np.zeros(3, int), np.zeros(3, int), 2, 2)


_FROM_STATE_TO_SCORES = """
import jax, numpy as np
from infogan_jax import Config, Trained, build_model
from infogan_jax.evaluation import label_free
from infogan_jax.reporting import figures

def note(event, *_, **about):
    if event.endswith("backend_compile_duration"):
        print(about["fun_name"])

jax.monitoring.register_event_duration_secs_listener(note)
config = Config(architecture="mnist_tiny", augment="digits", real_mi_weight=1.0)
model = build_model(config, (28, 28, 1))
trained = Trained(model, model.init(jax.random.key(0)))
figures.grid_latents(figures.figure_key(0), model.spec)
label_free.measure(trained, np.zeros((100, 28, 28, 1), np.uint8))
"""


def test_pictures_and_scores_are_few_programs():
    """On accelerators each operation outside of one takes long to compile."""
    command = [sys.executable, "-c", _FROM_STATE_TO_SCORES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "jit(grid_latents)" in done.stdout
    programs = done.stdout.splitlines()
    on_cpus_only = "jit(<lambda>)"  # asks whether XLA knows an option
    assert len(programs) - programs.count(on_cpus_only) <= 12, done.stdout
