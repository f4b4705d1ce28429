"""Towers, poolers, encoders, frozen supervisors, and the replay of their answers with gradient."""
