"""A Hydra plugin: `hydra/sweeper=plasticity` searches with this project's sampler."""
