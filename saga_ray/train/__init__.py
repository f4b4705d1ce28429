"""One step; one worker; one driver; checkpoints; arms; the supervisor's own training."""
