"""Figures: their data, how they are drawn, and the files they are written to."""
