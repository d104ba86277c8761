"""A training step that goes wrong, also in processes of their own."""

import jax

from infogan_jax.training import runs


def poisoned(step, always, seeds=(0,)):
    """`make_train_step`, but that step spoils a weight, unless keys are other ones."""
    make = runs.make_train_step

    def made(model):
        train_step = make(model)
        usual = jax.numpy.stack([jax.random.key(seed) for seed in seeds])
        usual = jax.random.key_data(jax.vmap(jax.random.fold_in, (0, None))(usual, 1))

        def spoil(state, *batch):
            new, metrics = train_step(state, *batch)
            own = jax.random.key_data(state.key)
            same = (own == usual).all(-1).any() | always
            spoiled = (state.step == step) & same
            params = dict(new.generator.params)
            name = sorted(params)[0]
            params[name] = jax.tree.map(
                lambda x: jax.numpy.where(spoiled, jax.numpy.nan, x), params[name]
            )
            return new.replace(generator=new.generator.replace(params=params)), metrics

        return spoil

    return made
