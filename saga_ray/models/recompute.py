"""Layers that keep their inputs alone and are computed a second time in backward.

The library's own gradient checkpointing is on in training mode only, and a frozen supervisor has none: asked
for it there, it does nothing. Here any layer is recomputed in whatever mode it is in. What is computed must
be the same both times: no dropout, no state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputed(
    layers: Iterable[nn.Module], within: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Iterator[None]:
    """Let these layers, called inside a ``with`` block, be computed again in backward, which may come later.

    `within`: what a layer needs around it then, where the block is over.
    """
    changed = list(layers)
    for layer in changed:
        assert "forward" not in layer.__dict__, "layers are recomputed already"
        layer.forward = partial(
            checkpoint,
            layer.forward,
            use_reentrant=False,
            preserve_rng_state=False,  # nothing is random
            context_fn=lambda: (nullcontext(), within()),
        )
    try:
        yield
    finally:
        for layer in changed:
            del layer.__dict__["forward"]
