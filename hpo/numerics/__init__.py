"""Pareto mathematics, Gaussian processes and local regression: arrays in, arrays out."""
