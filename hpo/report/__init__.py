"""The report: one HTML file that works from disk, without a network, on any screen and in print."""

from hpo.report.html.page import in_script, render, write_report

__all__ = ["in_script", "render", "write_report"]
