"""The OpenAPI document as a page that needs nothing from elsewhere (FastAPI's own loads its parts from the
internet).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

PAGE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem;
  color-scheme: light dark }
h2 { font: 600 1rem ui-monospace, monospace; margin: 2rem 0 0.2rem;
  border-top: 1px solid #8886; padding-top: 1rem }
pre { overflow-x: auto; background: #8882; padding: 0.8rem; border-radius: 6px; font-size: 0.85rem }
summary { cursor: pointer }
</style>
<h1>{{ title }}</h1>
<p>{{ about }}</p>
<p>For tools: <a href="openapi.json">openapi.json</a>.</p>
{% for each in operations %}
<h2 id="{{ each.id }}">{{ each.method }} {{ each.path }}</h2>
<p>{{ each.about }}</p>
{% for kind, schema in each.bodies %}
<details><summary>{{ kind }}</summary><pre>{{ schema }}</pre></details>
{% endfor %}
{% endfor %}
</html>
""")


def page_of(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document."""
    operations = [
        _operation(path, method, operation, document)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    info = document["info"]
    return PAGE.render(title=info["title"], about=info.get("description", ""), operations=operations)


def _operation(
    path: str, method: str, operation: Mapping[str, Any], document: Mapping[str, Any]
) -> dict[str, Any]:
    contents = [
        ("takes", operation.get("requestBody", {})),
        *((f"answers {status}", answer) for status, answer in operation["responses"].items()),
    ]
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "about": operation.get("description", operation.get("summary", "")),
        "bodies": [
            (f"{which}: {kind}", json.dumps(_whole(body["schema"], document), indent=2, ensure_ascii=False))
            for which, content in contents
            for kind, body in content.get("content", {}).items()
            if body.get("schema")
        ],
    }


def _whole(schema: Any, document: Mapping[str, Any]) -> Any:
    """A schema with what it refers to put in its place; ours refer to no schema that holds itself."""
    if isinstance(schema, list):
        return [_whole(each, document) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _whole(document["components"]["schemas"][name], document)
    return {key: _whole(value, document) for key, value in schema.items() if key != "title"}
