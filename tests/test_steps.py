import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from infogan_jax import Config, InfoGAN, Trained, build_model, make_train_step
from infogan_jax.core.latents import sample_latents
from infogan_jax.core.spec import parse_spec
from infogan_jax.core.state import Net, adam, apply_gradients
from infogan_jax.distributed.devices import (
    AXIS,
    load_batches,
    make_mesh,
    make_multi_step,
    placement,
    pmap_step,
    replicate,
    shard_map_step,
)
from tests.conftest import FUSION_EMITTERS

SHAPE = (28, 28, 1)
STEPS = 3
PLAIN = {
    "real_mi_weight": 0.0,
    "entropy_weight": 0.0,
    "equivariance_weight": 0.0,
    "augment": "none",
}


@pytest.fixture(scope="module")
def tiny():
    from tests.conftest import TINY

    return Config(**{**TINY, "consistency_fraction": 0.25, "log_every": STEPS})


@functools.cache
def model_of(config) -> InfoGAN:
    return build_model(config, SHAPE)


@functools.cache
def jitted_step(config):
    return jax.jit(make_train_step(model_of(config)))


@functools.cache
def jitted_steps(config, devices, members, streamed):
    mesh = make_mesh(jax.devices()[:devices])
    return make_multi_step(jitted_step(config), mesh, STEPS, members, streamed), mesh


@pytest.fixture(scope="module")
def step(tiny):
    return jitted_step(tiny)


@pytest.fixture(scope="module")
def start(tiny):
    return lambda seed=0: model_of(tiny).init(jax.random.key(seed))


@pytest.fixture(scope="module")
def batches(images):
    return np.stack([images[16 * i : 16 * (i + 1)] for i in range(STEPS)])


@pytest.fixture(scope="module")
def reference(step, start, batches):
    """State and metrics after each step of the plain loop."""
    states, all_metrics = [start()], []
    for batch in batches:
        state, metrics = step(states[-1], batch)
        states.append(state)
        all_metrics.append(metrics)
    return states, all_metrics


def gradient_norms(state) -> list[float]:
    """Of each player's first gradients, which Adam's mean remembers unscaled."""
    nets = state.generator, state.discriminator, state.recognizer
    return [
        float(
            jnp.sqrt(sum(jnp.sum(m**2) for m in jax.tree.leaves(net.opt_state[0].mu)))
        )
        for net in nets
    ]


def same(state, metrics, reference):
    states, all_metrics = reference
    np.testing.assert_allclose(
        gradient_norms(state), gradient_norms(states[-1]), rtol=1e-4
    )
    for name, value in all_metrics[-1].items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-5)


def test_metrics_are_named(reference):
    metrics = reference[1][-1]
    assert sorted(metrics) == [
        "equivariance/uniform1",
        "equivariance/uniform2",
        "loss/discriminator",
        "loss/generator",
        "marginal_entropy/cat",
        "mi_bound/cat",
        "mi_bound/uniform1",
        "mi_bound/uniform2",
        "mi_real/cat",
    ]
    assert all(np.isfinite(value) for value in metrics.values())


def test_scan(tiny, start, batches, reference):
    state, metrics = jax.jit(
        lambda s, b: jax.lax.scan(make_train_step(model_of(tiny)), s, b)
    )(start(), batches)
    same(state, {name: value[-1] for name, value in metrics.items()}, reference)


def test_mesh(step, start, batches, reference):
    mesh = make_mesh()
    assert mesh.size == 4
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))
    state = replicate(start(), mesh)
    for batch in batches:
        state, metrics = step(state, jax.device_put(batch, split))
    same(state, metrics, reference)


def test_shard_map(tiny, start, batches, reference):
    mesh = make_mesh()
    one = shard_map_step(model_of(tiny), mesh)
    state = replicate(start(), mesh)
    for batch in batches:
        state, metrics = one(state, batch)
    same(state, metrics, reference)


@pytest.mark.long
def test_what_a_batch_shares_is_the_same_on_all_devices(tiny, batches):
    """Means of logits, ranks of readings, and where between images a penalty looks."""
    config = dataclasses.replace(
        tiny,
        architecture="resnet",  # each image's gradient is its own
        base_channels=2,
        gan_loss="relativistic_average",
        penalty="wgan_gp",
        penalty_weight=1.0,
        penalty_every=2,
        prior_weight=1.0,
        **PLAIN,
    )
    begin = functools.partial(model_of(config).init, jax.random.key(0))
    alone = jitted_step(config)(begin(), batches[0])
    mesh = make_mesh()
    one = shard_map_step(model_of(config), mesh)
    together = one(replicate(begin(), mesh), batches[0])
    same(*together, ([alone[0]], [alone[1]]))


def test_pmap(tiny, start, batches, reference):
    one = pmap_step(model_of(tiny))
    state = start()
    for batch in batches:
        state, metrics = one(state, batch.reshape(4, 4, *SHAPE))
    same(state, metrics, reference)


def test_vmap_over_seeds(tiny, start, batches, step):
    states = jax.tree.map(lambda *x: jnp.stack(x), start(0), start(1))
    many, _ = jax.jit(jax.vmap(make_train_step(model_of(tiny)), (0, None)))(
        states, batches[0]
    )
    alone, _ = step(start(1), batches[0])
    np.testing.assert_allclose(
        gradient_norms(jax.tree.map(lambda x: x[1], many)),
        gradient_norms(alone),
        rtol=1e-4,
    )


@pytest.mark.parametrize(
    ("members", "devices"),
    [pytest.param(4, 4, marks=pytest.mark.long), (3, 2), (2, 1)],
)
def test_members_equal_runs_alone(tiny, start, images, reference, members, devices):
    """Spread over the devices, sharing batches, and on one device."""
    run, mesh = jitted_steps(tiny, devices, members, False)
    states = jax.device_put(
        jax.tree.map(lambda *x: jnp.stack(x), *map(start, range(members))),
        placement(mesh, members),
    )
    indices = np.arange(16 * STEPS).reshape(STEPS, 16)
    order = np.stack([np.roll(indices, r, axis=0) for r in range(members)])
    many, metrics, norm = run(states, replicate(jnp.asarray(images), mesh), order)
    losses = np.asarray(metrics["loss/generator"])
    assert losses.shape == (members, STEPS)
    assert norm.shape == (members,)
    first = jax.tree.map(lambda x: x[0], many)
    np.testing.assert_allclose(
        gradient_norms(first), gradient_norms(reference[0][-1]), rtol=1e-4
    )
    expected = [m["loss/generator"] for m in reference[1]]
    np.testing.assert_allclose(losses[0], expected, rtol=1e-4)
    assert len(set(losses.mean(1).tolist())) == members


@pytest.mark.long
def test_each_member_learns_pseudo_labels_of_its_own(tiny, images):
    """Q follows its labels; by the other member's it is wrong."""
    config = dataclasses.replace(tiny, d_learning_rate=1e-2, real_mi_weight=5.0)
    mesh = make_mesh(jax.devices()[:2])
    model = model_of(config)
    run = make_multi_step(make_train_step(model), mesh, 20, 2)
    keys = jax.vmap(jax.random.key)(jnp.arange(2))
    states = jax.jit(jax.vmap(model.init))(keys)
    batches = np.arange(320).reshape(20, 16) % len(images)
    both = np.stack([batches, batches])
    labels = np.int32([[3] * len(images), [7] * len(images)])
    data = replicate(jnp.asarray(images), mesh)
    states = jax.device_put(states, placement(mesh, 2))
    states, first, _ = run(states, data, both, labels)
    states, later, _ = run(states, data, both, labels)
    first, later = (row["pseudo_label_ll/cat"].mean(1) for row in (first, later))
    assert (later > np.maximum(first, np.log(0.3))).all()
    _, wrong, _ = run(states, data, both[:, :1], labels[::-1])
    assert (wrong["pseudo_label_ll/cat"][:, 0] < np.log(0.1)).all()


@pytest.mark.parametrize(
    ("members", "devices"),
    [
        (1, 4),
        pytest.param(4, 4, marks=pytest.mark.long),
        pytest.param(3, 2, marks=pytest.mark.long),
    ],
)
def test_streamed_batches_equal_resident_data(tiny, start, images, members, devices):
    """A short stretch too, which is padded."""
    indices = np.arange(16 * 2 * members).reshape(members, 2, 16) % len(images)
    state = jax.tree.map(lambda *x: jnp.stack(x), *map(start, range(members)))
    if members == 1:
        state, indices = start(), indices[0]
    found = []
    for streamed in (False, True):
        run, mesh = jitted_steps(tiny, devices, members, streamed)
        arrays = replicate(jnp.asarray(images), mesh)
        if streamed:
            arrays = load_batches(images, indices, mesh, STEPS, members)
        copy = jax.tree.map(jnp.copy, state)  # for it is donated
        copy = jax.device_put(copy, placement(mesh, members))
        run = run.lower(copy, arrays, indices).compile(FUSION_EMITTERS)
        found.append(run(copy, arrays, indices)[1])
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name])


def test_compiled_run_of_any_length_compiles_once(tiny, start, images, reference):
    run, mesh = jitted_steps(tiny, 1, 1, False)
    resident = replicate(jnp.asarray(images), mesh)
    indices = np.arange(16 * STEPS).reshape(STEPS, 16)
    state, one, _ = run(replicate(start(), mesh), resident, indices[:1])
    state, rest, norm = run(state, resident, indices[1:])
    assert run.program._cache_size() == 1
    assert int(state.step) == STEPS
    # What comes after the steps of a call is zeros
    found = one["loss/generator"] + np.roll(rest["loss/generator"], 1)
    expected = [m["loss/generator"] for m in reference[1]]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.isfinite(norm)


def test_no_hidden_transfers(step, start, batches):
    state = start()
    batch = jax.device_put(batches[0])
    step(state, batch)
    with jax.transfer_guard("disallow"):
        jax.block_until_ready(step(state, batch))


def test_no_key_is_used_twice(tiny, start, batches):
    with jax.debug_key_reuse(True):
        jax.jit(make_train_step(model_of(tiny)))(start(), batches[0])


def test_each_player_learns_from_its_own_objective_only(tiny, start, batches):
    """With a step size of 0 for one player, it stays, and the other one moves."""

    def after(**rates):
        config = dataclasses.replace(tiny, **rates)
        state, _ = jitted_step(config)(start(), batches[0])
        return state

    still_d, still_g = after(d_learning_rate=0.0), after(g_learning_rate=0.0)
    before = start()
    assert _equal(still_d.discriminator.params, before.discriminator.params)
    assert not _equal(still_d.generator.params, before.generator.params)
    assert _equal(still_g.generator.params, before.generator.params)
    assert not _equal(still_g.recognizer.params, before.recognizer.params)
    # D's gradient does not depend on whether G moves after it.
    both = after()
    assert _equal(both.discriminator.params, still_g.discriminator.params)


def test_adam_is_optax_adam(tiny):
    rates = 0.9, 0.99
    params = {"a": jnp.linspace(-1, 1, 5), "b": jnp.ones((2, 3))}
    schedule = optax.linear_schedule(0.01, 0, 2, transition_begin=2)
    theirs = optax.adam(schedule, *rates)
    ours = adam(0.01, *rates, steps=4, decay_fraction=0.5)
    net, opt_state = Net(params, {}, ours.init(params)), theirs.init(params)
    for scale in (1.0, -3.0, 0.0, 1e-6):
        gradient = jax.tree.map(lambda x, s=scale: s * jnp.cos(x), params)
        net = apply_gradients(net, ours, gradient, {})
        updates, opt_state = theirs.update(gradient, opt_state)
        params = optax.apply_updates(params, updates)
    assert jax.tree.structure(net.opt_state) == jax.tree.structure(opt_state)
    for found, expected in zip(
        jax.tree.leaves((net.params, net.opt_state)),
        jax.tree.leaves((params, opt_state)),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_moments_and_parameters_are_stored_first_on_cpus_only(platform):
    optimizer = adam(0.01)
    params = {"a": jnp.ones((2, 3))}
    net = Net(params, {}, optimizer.init(params))
    traced = jax.jit(lambda net, g: apply_gradients(net, optimizer, g, {})).trace(
        net, params
    )
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert program.count("optimization_barrier") == 2 * (platform == "cpu")


def test_statistics_of_real_and_of_fake_pictures_are_both_kept(tiny, start, batches):
    """The same fakes, other reals; and the same reals, other fakes: each one tells."""
    one = jitted_step(tiny)
    stats = one(start(), batches[0])[0].discriminator.batch_stats
    other_reals = one(start(), batches[1])[0].discriminator.batch_stats
    other_fakes = one(start().replace(key=jax.random.key(9)), batches[0])[0]
    assert not _equal(stats, other_reals)
    assert not _equal(stats, other_fakes.discriminator.batch_stats)


def test_bfloat16_computes_and_parameters_stay_float32(tiny, start, batches, reference):
    config = dataclasses.replace(tiny, dtype="bfloat16")
    state, metrics = jitted_step(config)(start(), batches[0])
    for leaf in jax.tree.leaves(state.generator.params):
        assert leaf.dtype == jnp.float32
    for name, value in reference[1][0].items():
        np.testing.assert_allclose(metrics[name], value, atol=0.05)


@pytest.mark.parametrize(
    "change",
    [
        {"penalty_weight": 1.0, "penalty_every": 2, "prior_weight": 0.1},
        # Three codes to follow three changes, half of the copies without a channel
        {"augment": "cells:isolate_channel=2", "codes": "cat:3,uniform:3,noise:8"},
        {"gan_loss": "hinge", **PLAIN},
        {"architecture": "dcgan", "base_channels": 2, "gan_loss": "relativistic"},
        {
            "codes": "gaussian:2:sigma=learned,bernoulli:2,noise:4",
            "real_mi_weight": 0.0,
        },
        {"codes": "cat:3:weight=0,noise:8", "info_weight": 0.0, **PLAIN},
    ],
)
def test_every_term_gives_finite_updates(tiny, batches, change):
    config = dataclasses.replace(tiny, **change)
    state = model_of(config).init(jax.random.key(0))
    state, metrics = jitted_step(config)(state, batches[0])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(metrics))
    assert np.isfinite(gradient_norms(state)).all()


def test_without_lambda_q_watches_and_nobody_hears_of_it(tiny, batches):
    """D and G move as in a plain GAN, while Q learns to read the codes."""
    config = dataclasses.replace(tiny, info_weight=0.0, **PLAIN)
    heavier = dataclasses.replace(config, codes="cat:10:weight=9,uniform:2,noise:62")
    before = model_of(config).init(jax.random.key(0))
    after, _ = jitted_step(config)(before, batches[0])
    other, _ = jitted_step(heavier)(before, batches[0])
    for name in ("discriminator", "generator"):
        assert _equal(getattr(after, name).params, getattr(other, name).params)
    assert not _equal(after.recognizer.params, before.recognizer.params)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_the_whole_program_lowers_for_accelerators(tiny, start, images, platform):
    """Init, the loop, all updates: the norm of the last state needs them."""
    run = make_multi_step(
        make_train_step(model_of(tiny)), make_mesh(jax.devices()[:1]), STEPS
    )
    indices = np.arange(16 * STEPS).reshape(STEPS, 16)

    @jax.jit
    def program(resident):
        return run(start(), resident, indices)[1:]

    exported = jax.export.export(program, platforms=[platform])(images)
    assert exported.platforms == (platform,)
    metrics, _norm = exported.out_tree.unflatten(exported.out_avals)
    assert metrics["loss/generator"].shape == (STEPS,)


def test_generate_and_infer(tiny, reference, batches):
    state = reference[0][-1]
    spec = parse_spec(tiny.codes)
    model = model_of(tiny)
    images = model.generate(state, sample_latents(jax.random.key(0), 5, spec))
    assert images.shape == (5, *SHAPE)
    assert images.min() >= 0
    assert images.max() <= 1
    codes = model.infer_codes(state, batches[0])
    assert codes["cat"].shape == (16, 10)
    np.testing.assert_array_equal(codes["cat"].sum(-1), 1)
    assert codes["uniform2"].shape == (16, 1)


def _equal(a, b) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(bool((x == y).all()) for x, y in pairs)


def test_a_learned_prior_follows_what_q_reads(tiny, images):
    codes = "cat:4:prior=learned,uniform:2,noise:4"
    config = dataclasses.replace(tiny, codes=codes, d_learning_rate=5e-3)
    model = dataclasses.replace(model_of(config), frequency_decay=0.8)
    step, labels = jax.jit(make_train_step(model)), jnp.arange(16) % 4 // 3
    state = model.init(jax.random.key(0))
    np.testing.assert_allclose(state.frequencies["cat"], 0.25)
    for _ in range(60):
        state, _ = step(state, images[:16], labels)
    found = Trained(model, state).spec[0].prior
    assert found == pytest.approx((0.75, 0.25, 0, 0), abs=0.15)
    assert sum(found) == pytest.approx(1)


def test_a_learned_prior_is_that_of_the_whole_batch(tiny, batches):
    config = dataclasses.replace(tiny, codes="cat:4:prior=learned,uniform:2,noise:4")
    model, mesh = model_of(config), make_mesh()
    start = model.init(jax.random.key(0))
    frequencies = np.array([0.7, 0.1, 0.1, 0.1], np.float32)
    start = start.replace(frequencies={"cat": jnp.asarray(frequencies)})
    whole, metrics = jax.jit(make_train_step(model))(start, batches[0])
    parts, same = shard_map_step(model, mesh)(replicate(start, mesh), batches[0])
    np.testing.assert_allclose(
        parts.frequencies["cat"], whole.frequencies["cat"], rtol=1e-5
    )
    assert (whole.frequencies["cat"] != frequencies).all()
    for name, value in metrics.items():
        np.testing.assert_allclose(same[name], value, rtol=1e-4, atol=1e-5)
