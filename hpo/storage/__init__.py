"""The record of a study in a database, the lease on it, and run folders."""
