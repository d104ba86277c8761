import jax
import numpy as np
import pytest

from infogan_jax import Config
from infogan_jax.data import Data
from infogan_jax.evaluation.unlabelled import joint_use, signs_of_trouble
from infogan_jax.replicas import agreement, compare, medoid
from infogan_jax.state import init_state


def test_the_medoid_is_the_one_that_agrees():
    truth = np.repeat(np.arange(4), 25)
    renamed = (truth + 1) % 4
    broken = np.where(truth == 3, 0, truth)  # two kinds in one category
    matrix = agreement([broken, truth, renamed])
    np.testing.assert_allclose(np.diag(matrix), 1)
    assert matrix[1, 2] == pytest.approx(1)
    assert matrix[0, 1] < 0.9
    assert medoid(matrix) in (1, 2)


def test_replicas_that_collapsed_do_not_agree():
    truth, nothing = np.arange(8) % 4, np.zeros(8, int)
    np.testing.assert_array_equal(agreement([nothing, nothing]), 0)
    assert medoid(agreement([nothing, nothing, truth, truth])) == 2


def test_of_two_the_higher_information_is_chosen():
    config = Config(architecture="mnist_tiny", seeds=2)
    images = np.zeros((20, 28, 28, 1), np.uint8)
    state = init_state(jax.random.key(0), config, images.shape[1:])
    results = [{"unlabelled": {"cat": {"information_real": x}}} for x in (1.1, 1.2)]
    data = Data(images, images, None, [])
    table = compare([state, state], results, config, data)
    assert (table["chosen"], table["because"][:9]) == (1, "its I(c; ")


def test_what_was_not_measured_is_no_reason_to_choose():
    config = Config(architecture="mnist_tiny", seeds=2)
    images = np.zeros((20, 28, 28, 1), np.uint8)
    state = init_state(jax.random.key(0), config, images.shape[1:])
    data = Data(images, images, None, [])
    because = compare([state, state], [{}, {}], config, data)["because"]
    assert because == "the first one, for --evaluators lacks unlabelled"
    results = [{"unlabelled": {"cat": {"bound": x}}} for x in (2.0, 2.1)]
    table = compare([state, state], results, config, data)
    assert table["because"] == "its bound I(c; G) is higher, in nats"


def test_a_healthy_table_has_no_signs_of_trouble():
    plain = np.repeat(np.eye(5), 20, axis=0)
    joint = joint_use(plain, plain)
    np.testing.assert_allclose(joint, np.eye(5) / 5)
    assert signs_of_trouble(joint) == []


def test_signs_of_trouble():
    # Of 100 images 40 are of category 0, none of category 4; 2 and 3 are one cluster.
    plain = np.repeat(np.eye(5)[[0, 1, 2, 3]], [40, 20, 20, 20], axis=0)
    warped = np.repeat(np.eye(5)[[0, 1, 2, 3, 2, 3]], [40, 20, 10, 10, 10, 10], axis=0)
    joint = joint_use(plain, warped)
    assert joint[2, 3] == pytest.approx(0.1)
    assert signs_of_trouble(joint) == [
        "category 0 has 2.0 times its share of the real images: perhaps two kinds in "
        "one",
        "category 4 is hardly used on real images",
        "categories 2 and 3 share one kind: warps move 50% of their images from one to "
        "the other",
    ]


def test_a_category_of_copies_is_told_from_two_that_are_confused():
    # Of 40 images half change category at random; then all of them, as copies do.
    plain = np.repeat(np.eye(2), 20, axis=0)
    half = np.concatenate([plain[:10], plain[20:30], plain[:10], plain[20:30]])
    confused = "categories 0 and 1 share one kind: warps move 50% of their images"
    (told,) = signs_of_trouble(joint_use(plain, half))
    assert told == f"{confused} from one to the other"
    (told,) = signs_of_trouble(joint_use(plain, plain[::-1]))
    assert told.startswith(confused.replace("50%", "100%"))
    assert told.endswith("--agreement_share=1 does not reward")
