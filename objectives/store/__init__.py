"""Finished stages on disk."""
