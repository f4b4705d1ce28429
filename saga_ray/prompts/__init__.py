"""What the supervisor is asked and what its answer means: templates, attribute vocabularies, verdicts."""
