"""Pretraining jobs, their keys, checkpoints and processes."""
