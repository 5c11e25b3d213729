"""Weights, evaluation files and the configuration of other trainers."""
