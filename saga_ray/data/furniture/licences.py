"""The licence of each model: the stricter of what its library says and what the file beside the model
says.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from dataclasses import dataclass

from saga_ray.data.furniture.catalogue import Item

CC0 = "CC0-1.0"
CC_BY = "CC-BY-3.0"
CC_BY_US = "CC-BY-3.0-US"

LICENCE_PAGES = {
    CC0: "https://creativecommons.org/publicdomain/zero/1.0/",
    CC_BY: "https://creativecommons.org/licenses/by/3.0/",
    CC_BY_US: "https://creativecommons.org/licenses/by/3.0/us/",
}
LIBRARY_LICENCES = {"BlendSwap-CC-0": CC0, "BlendSwap-CC-BY": CC_BY, "KatorLegaz": CC_BY_US, "Scopia": CC_BY}


@dataclass(frozen=True)
class Provenance:
    """Under which licence a model is given, and the web address it came from ("" where nothing says so)."""

    licence: str
    source: str


def provenance(archive: zipfile.ZipFile, item: Item) -> Provenance:
    """Read the licence files in a model's folder of its library's zip."""
    folder = posixpath.dirname(item.model) + "/"
    licence, source = LIBRARY_LICENCES[item.library], ""
    for name in archive.namelist():
        if name.startswith(folder) and "license" in name.lower():
            raw = archive.read(name).decode("utf-8", "replace")
            text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", raw))
            if licence == CC0 and "Released under Creative Commons Attribution" in text:
                licence = CC_BY
            page = re.search(r"https?://(?:www\.)?blendswap\.com/blends?/(?:view/)?\d+", raw)
            source = page.group() if page else source
    return Provenance(licence, source)
