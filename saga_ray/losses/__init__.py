"""Losses: pure functions of tensors. Sums are left undivided: the caller knows the counts of the step."""
