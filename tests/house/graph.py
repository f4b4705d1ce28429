"""Who imports whom in saga_ray, read from the source; nothing is imported."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from saga_ray.config.names import PACKAGE


@dataclass(frozen=True)
class Import:
    """One import statement's target, as a dotted name."""

    target: str
    line: int
    at_import_time: bool  # false inside functions and under TYPE_CHECKING


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, for every module of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> tuple[Import, ...]:
    """Everything that a module imports, wherever the statement stands."""
    path = modules()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: list[Import] = []
    _collect(ast.parse(path.read_text(encoding="utf-8"), str(path)), package, True, found)
    return tuple(found)


@cache
def own_imports(module: str, at_import_time: bool = False) -> frozenset[str]:
    """Modules of saga_ray that a module imports; optionally only those that load with it."""
    targets = {each.target for each in imports(module) if each.at_import_time or not at_import_time}
    return frozenset(target for target in targets if target in modules() and target != module)


def reaches(module: str, library: str) -> list[str] | None:
    """A chain of load-time imports from a module to a library, if there is one."""
    queue, seen = [[module]], {module}
    while queue:
        chain = queue.pop(0)
        if any(each.at_import_time and _is(each.target, library) for each in imports(chain[-1])):
            return [*chain, library]
        for target in own_imports(chain[-1], at_import_time=True) - seen:
            seen.add(target)
            queue.append([*chain, target])
    return None


def users_of(library: str) -> dict[str, int]:
    """Modules that import a library anywhere -> line of the first such statement."""
    return {
        module: next(each.line for each in imports(module) if _is(each.target, library))
        for module in modules()
        if any(_is(each.target, library) for each in imports(module))
    }


def _is(target: str, library: str) -> bool:
    return target == library or target.startswith(library + ".")


def _collect(node: ast.AST, package: str, loads: bool, found: list[Import]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            found += [Import(alias.name, child.lineno, loads) for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - child.level + 1], base]
                ).strip(".")
            # `from package import name` may name a module; the package itself is loaded in any case.
            found.append(Import(base, child.lineno, loads))
            found += [Import(f"{base}.{alias.name}", child.lineno, loads) for alias in child.names]
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for statement in child.body:
                _collect(ast.Module([statement], []), package, False, found)
            for statement in child.orelse:
                _collect(ast.Module([statement], []), package, loads, found)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            _collect(child, package, loads and not inside, found)
