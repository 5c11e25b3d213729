"""The report: one HTML file that works from disk, without a network, on any screen and in print."""
