"""Tables of images: readers, splits, samplers, transforms and the Ray Data stream."""
