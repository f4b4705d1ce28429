"""Composed image retrieval (InstructCIR, arXiv 2412.05756): a reference image and an instruction find an
image.
"""
