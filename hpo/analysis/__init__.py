"""What the results say beyond the front."""
