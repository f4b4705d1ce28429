"""An encoder behind HTTP: embeddings, search in an index, where the encoder looks, a page to try it.

    bytes ──▶ app (ASGI, CPU) ──▶ Backend ──▶ engine: encoder + index (GPU or CPU)
               gate: token, size, queue, time      batches of pictures, by number and waiting time
               inputs, pictures: bytes to pixels

The HTTP layer knows the protocol `Backend` alone: an `Engine` in the same process, or Ray Serve's model
replicas (`deployment`), which hold an `Engine` each.

Legend: B pictures, Q queries, E embedding, N patch tokens, H and W height and width, C colours.
"""
