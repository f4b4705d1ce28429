"""A tower with adapters on its linear maps (LoRA; `saga_ray.models.adapters`), whose own weights are frozen.

An adapter is two maps beside a map: inputs x rank and rank x outputs. It keeps what it reads, as the map did
when it trained, and the numbers between its two. In bfloat16 each rounds its input for itself, where maps
that train whole share theirs with what made it: so adapters save the optimizer's state, but may keep more of
a picture than a tower that trains whole.
"""

from __future__ import annotations

from dataclasses import replace

from saga_ray.plan.sizes import Product, TowerSizes


def adapted(tower: TowerSizes, rank: int) -> TowerSizes:
    """The tower with adapters of this rank."""
    products: list[Product] = []
    for product in tower.products:
        untaught = product.of_pixels or product.first
        products.append(replace(product, of_pixels=untaught, trains=False))
        if product.linear:
            products.append(Product(product.rows, product.inputs, rank, of_pixels=untaught))
            products.append(Product(product.rows, rank, product.outputs))
    own = [product for product in products if product.trains]
    read = sum(product.rows * product.inputs for product in own)
    frozen = tower.frozen
    assert frozen is not None, "the sizes were read for a tower without adapters"
    return replace(
        tower,
        parameters=tower.parameters + sum(product.weights for product in own),
        untrained=tower.parameters,
        products=tuple(products),
        kept=frozen.kept + read - frozen.shared,
        kept_float32=frozen.kept_float32,
        kept_casts=frozen.shared,
    )
