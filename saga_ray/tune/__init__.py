"""Sweeps: many runs on Ray Tune, with one frozen supervisor behind all of them."""
