"""K lanes as one program: the loop, optimizers, schedules, decay, evaluation."""
