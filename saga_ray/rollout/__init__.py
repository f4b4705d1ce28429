"""Rollouts: what the supervisor answers about a pair, what that earns, and which groups a step takes."""
