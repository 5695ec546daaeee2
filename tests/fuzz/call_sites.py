"""Every place in the program that decodes bytes, found in the source: so that no decoder is forgotten in the table."""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import GenericAlias, ModuleType
from typing import Any

from gensyn_node.primitives import limits

ROOT = Path(__file__).parents[2]
PACKAGES = ("gensyn_node", "consensus", "p2p", "ml", "proofs", "cli")
READERS = ("parse_", "decode_", "unpack", "read_", "load_")
"""How functions that read bytes or text from outside begin."""


@dataclass(frozen=True, slots=True)
class Site:
    """One call of the codec's `decode`."""

    module: str
    line: int
    expression: str
    """The type, as written."""
    type_: Any
    """The type itself; None when it is only known at run time."""
    max_bytes: int


@cache
def modules() -> list[tuple[str, ast.Module]]:
    """Name and syntax tree of every module of the program."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.name != "__main__.py":
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
                found.append((name, ast.parse(path.read_text())))
    return found


@cache
def decode_sites() -> list[Site]:
    """All calls of `codec.decode` in the program."""
    sites = []
    for name, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("decode", "codec.decode"):
                continue
            module = importlib.import_module(name)
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            bound = _resolve(given["max_bytes"], module) if "max_bytes" in given else limits.MESSAGE_BYTES_MAX
            sites.append(
                Site(
                    name,
                    node.lineno,
                    ast.unparse(node.args[0]),
                    _resolve(node.args[0], module),
                    bound if isinstance(bound, int) else limits.MESSAGE_BYTES_MAX,
                )
            )
    return sites


def readers() -> list[str]:
    """`module.function` of every public function of a module that by its name reads bytes or text."""
    found = []
    for name, tree in modules():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(READERS):
                found.append(f"{name}.{node.name}")
    return found


def _resolve(node: ast.expr, module: ModuleType) -> Any:
    """What a type expression stands for in a module; None when it is a variable."""
    match node:
        case ast.Name(id=name):
            return getattr(module, name, None) or {"bytes": bytes, "str": str, "int": int, "tuple": tuple}.get(name)
        case ast.Attribute(value=value, attr=attribute):
            return getattr(_resolve(value, module), attribute, None)
        case ast.Constant(value=value):
            return value
        case ast.Tuple(elts=items):
            return tuple(_resolve(item, module) for item in items)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _resolve(left, module) | _resolve(right, module)
        case ast.BinOp(left=left, op=ast.LShift(), right=right):
            return _resolve(left, module) << _resolve(right, module)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _resolve(left, module) * _resolve(right, module)
        case ast.Subscript(value=value, slice=inside):
            outer = _resolve(value, module)
            return GenericAlias(outer, _resolve(inside, module)) if outer is tuple else None
    return None
