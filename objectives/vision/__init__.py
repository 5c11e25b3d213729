"""The second objective: image classification."""
