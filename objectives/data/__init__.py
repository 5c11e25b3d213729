"""Text to documents to token files; tasks to encoded rows."""
