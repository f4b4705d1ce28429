"""Pages made from jinja templates: one HTML file each, that opens from disk and asks for nothing else."""

from __future__ import annotations

from pathlib import Path

import jinja2

PAGE = "index.html"
"""Name of a report's file in its folder."""


def environment(templates: Path) -> jinja2.Environment:
    """For a folder of templates: what is shown is escaped, and a name that is not given is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
