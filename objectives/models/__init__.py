"""Transformers modules as parameterless programs."""
