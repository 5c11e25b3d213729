"""What one trial does, and where: frozen values."""
