"""Training an embedder of composed retrieval on Ray Train, stage by stage."""
