"""What can be checked of requests before training, and what they would cost."""
