"""Train, evaluate, sweep and serve image-retrieval encoders with a frozen multimodal language model as teacher."""
