"""LoRA and full fine-tuning: lanes of base x rate x seed, choice of the rate."""
