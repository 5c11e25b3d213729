"""What studies, trials, domains and papers are, and how values are written."""
