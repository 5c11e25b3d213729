"""Which settings are best, given noise."""
