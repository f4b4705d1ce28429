"""Composed image retrieval: a picture and an instruction ask for another picture."""
