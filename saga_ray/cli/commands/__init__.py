"""One file a command; see `saga_ray.cli`."""
