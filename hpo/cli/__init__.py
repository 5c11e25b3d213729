"""Commands of `hpo`, one a file: its words, and what it does."""
