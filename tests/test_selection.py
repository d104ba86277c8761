import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infogan_jax import Config, Trained, build_model
from infogan_jax.core.models import Networks
from infogan_jax.evaluation.label_free import diagnose, joint_use
from infogan_jax.evaluation.results import Measures
from infogan_jax.evaluation.selection import (
    choose,
    mean_of_others,
    model_centrality,
    pairwise_nmi,
)


def test_the_medoid_is_the_one_that_agrees():
    truth = np.repeat(np.arange(4), 25)
    renamed = (truth + 1) % 4
    broken = np.where(truth == 3, 0, truth)  # two kinds in one category
    matrix = pairwise_nmi([broken, truth, renamed])
    np.testing.assert_allclose(np.diag(matrix), 1)
    assert matrix[1, 2] == pytest.approx(1)
    assert matrix[0, 1] < 0.9
    assert mean_of_others(matrix).argmax() in (1, 2)


def test_replicas_that_collapsed_do_not_agree():
    truth, nothing = np.arange(8) % 4, np.zeros(8, int)
    np.testing.assert_array_equal(pairwise_nmi([nothing, nothing]), 0)
    matrix = pairwise_nmi([nothing, nothing, truth, truth])
    np.testing.assert_allclose(mean_of_others(matrix), [0, 0, 1 / 3, 1 / 3])


class Matrix(nn.Module):
    """`[B, 2]` times a matrix, as given or as pictures `[B, 1, 2, 1]`."""

    as_pictures: bool = False

    @nn.compact
    def __call__(self, x, train):
        made = x @ self.param("matrix", lambda _: jnp.eye(2))
        return made.reshape(-1, 1, 2, 1) if self.as_pictures else made


class Pixels(nn.Module):
    """A discriminator whose features are the pixels."""

    @nn.compact
    def __call__(self, images, train):
        pixels = images.reshape(-1, 2)
        return nn.Dense(1)(pixels)[:, 0], pixels


def test_members_that_read_each_other_are_central():
    networks = Networks(Matrix(as_pictures=True), Pixels(), Matrix())
    model = build_model(Config(codes="uniform:2"), (1, 2, 1), networks=networks)
    state = model.init(jax.random.key(0))

    def member(matrix):
        """One that draws by the matrix, and reads by its inverse."""
        ema = state.ema | {"params": {"matrix": jnp.array(matrix)}}
        recognizer = state.recognizer.replace(
            params={"matrix": jnp.linalg.inv(jnp.array(matrix))}
        )
        return Trained(model, state.replace(ema=ema, recognizer=recognizer))

    plain, swapped = [[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]
    turned = [[0.5, 0.5], [-0.5, 0.5]]  # both pixels follow both codes
    members = [member(matrix) for matrix in (turned, plain, swapped)]
    scores = model_centrality(members)
    np.testing.assert_allclose(np.diag(scores), 1)
    assert scores[1, 2] == scores[2, 1] == 1  # an order is no meaning
    assert max(scores[0, 1:]) < 0.75  # 0.5 by chance
    images = np.zeros((20, 1, 2, 1), np.uint8)
    choice = choose(members, [3, 4, 5], [{}, {}, {}], images, "codes")
    assert choice.chosen in (4, 5)
    assert "ModelCentrality" in choice.because


@pytest.fixture(scope="module")
def two():
    """Two members, and images that they are compared on."""
    model = build_model(Config(architecture="mnist_tiny"), (28, 28, 1))
    trained = Trained(model, model.init(jax.random.key(0)))
    return [trained, trained], [3, 4], np.zeros((20, 28, 28, 1), np.uint8)


def label_free(**row):
    return {"label_free": Measures({"cat": row})}


def test_of_two_the_higher_information_is_chosen(two):
    trained, seeds, images = two
    results = [label_free(bound=2.0, mi_real=x) for x in (1.1, 1.2)]
    choice = choose(trained, seeds, results, images)
    assert (choice.chosen, choice.because) == (4, "the score is its I(c; x), in nats")
    assert [member.score for member in choice.members] == [1.1, 1.2]


def test_what_was_not_measured_is_no_reason_to_choose(two):
    trained, seeds, images = two
    choice = choose(trained, seeds, [{}, {}], images)
    assert choice.because == "it is the first one: --evaluators lacks label_free"
    results = [label_free(bound=x) for x in (2.0, 2.1)]
    choice = choose(trained, seeds, results, images)
    assert choice.because == "the score is its bound on I(c; G), in nats"
    assert choice.chosen == 4


def test_a_healthy_table_has_no_diagnose():
    plain = np.repeat(np.eye(5), 20, axis=0)
    joint = joint_use(plain, plain)
    np.testing.assert_allclose(joint, np.eye(5) / 5)
    assert diagnose(joint, np.full(5, 0.2)) == []


def test_diagnose():
    # Of 100 images 40 are of category 0, none of category 4; 2 and 3 are one cluster.
    plain = np.repeat(np.eye(5)[[0, 1, 2, 3]], [40, 20, 20, 20], axis=0)
    warped = np.repeat(np.eye(5)[[0, 1, 2, 3, 2, 3]], [40, 20, 10, 10, 10, 10], axis=0)
    joint = joint_use(plain, warped)
    assert joint[2, 3] == pytest.approx(0.1)
    assert diagnose(joint, np.full(5, 0.2)) == [
        "category 0 has 2.0 times its share of the real images: perhaps two kinds in "
        "one",
        "category 4 is hardly used on real images",
        "categories 2 and 3 share one kind: augmentation moves 50% of their images "
        "from one to the other",
    ]


def test_shares_are_those_of_the_prior():
    plain = np.repeat(np.eye(3)[[0, 1]], [2997, 3], axis=0)
    joint = joint_use(plain, plain)
    assert diagnose(joint, np.array([0.9985, 0.001, 0.0005])) == [
        "category 2 is hardly used on real images"
    ]
    twice = np.array([0.4995, 0.5, 0.0005])  # and a prior that follows what died
    assert diagnose(joint, twice) == [
        "category 0 has 2.0 times its share of the real images: perhaps two kinds in "
        "one",
        "category 1 is hardly used on real images",
        "category 2 is hardly used on real images",
    ]


def test_a_category_of_copies_is_told_from_two_that_are_confused():
    # Of 40 images half change category at random; then all of them, as copies do.
    plain = np.repeat(np.eye(2), 20, axis=0)
    half = np.concatenate([plain[:10], plain[20:30], plain[:10], plain[20:30]])
    confused = (
        "categories 0 and 1 share one kind: augmentation moves 50% of their images"
    )
    (told,) = diagnose(joint_use(plain, half), np.full(2, 0.5))
    assert told == f"{confused} from one to the other"
    (told,) = diagnose(joint_use(plain, plain[::-1]), np.full(2, 0.5))
    assert told.startswith(confused.replace("50%", "100%"))
    assert told.endswith("--consistency_fraction=1 does not reward")
