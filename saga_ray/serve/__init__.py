"""A model behind HTTP: embeddings, search in an index, where an encoder looks, a page to try it.

    bytes ──▶ app (ASGI, CPU) ──▶ Backend ──▶ engine: model + index (GPU or CPU)
               gate: token, size, queue, time      batches of items, by number and waiting time
               inputs, pictures: bytes to pixels

The HTTP layer knows the protocol `Backend` alone: an `Engine` in the same process, or Ray Serve's model
replicas (`deployment`), which hold an `Engine` each.

An item is a picture, a text, or a picture with an instruction; which of them a model takes is its kind's
affair (`models`).

Legend: B items, Q queries, E embedding, N patch tokens, H and W height and width, C colours.
"""
