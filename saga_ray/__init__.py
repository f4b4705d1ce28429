"""Train, evaluate, sweep and serve image-retrieval encoders with a frozen multimodal teacher, on Ray."""
