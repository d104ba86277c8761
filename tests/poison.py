"""A training step that goes wrong, also in processes of their own."""

import jax

from infogan_jax import init_state, training


def poisoned(step, always):
    """`make_train_step`, but that step spoils a weight, unless keys are other ones."""
    make = training.make_train_step

    def made(config, image_shape):
        train_step = make(config, image_shape)
        usual = init_state(jax.random.key(config.seed), config, image_shape).key
        usual = jax.random.key_data(usual)

        def spoil(state, *batch):
            new, metrics = train_step(state, *batch)
            same = (jax.random.key_data(state.key) == usual).all() | always
            spoiled = (state.step == step) & same
            params = dict(new.generator.params)
            name = sorted(params)[0]
            params[name] = jax.tree.map(
                lambda x: jax.numpy.where(spoiled, jax.numpy.nan, x), params[name]
            )
            return new.replace(generator=new.generator.replace(params=params)), metrics

        return spoil

    return made
