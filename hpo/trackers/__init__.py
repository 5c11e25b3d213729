"""Experiment trackers: a run for each trial, and one for the study, in somebody's own tool."""
