"""`gensyn explain CODE` and `gensyn version`."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Annotated

import typer

from cli.options import JsonOption
from cli.output import emit, facts, table
from gensyn_node import __version__
from gensyn_node.primitives.errors import REASONS, Rejection, reason

UNKNOWN_CODE = reason("E1881", "unknown_code", "There is no such code.", "List all codes with gensyn explain.")


def explain(
    code: Annotated[str | None, typer.Argument(help="Such as E1201; all codes when left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What a code means, and what to do."""
    _load_reasons()
    if code is None:
        known = [REASONS[key] for key in sorted(REASONS)]
        listed = [{"code": one.code, "name": one.name, "meaning": one.meaning, "remedy": one.remedy} for one in known]
        rows = [(one.code, one.meaning, one.remedy) for one in known]
        emit(as_json, listed, lambda: table("Codes", ("Code", "Meaning", "Remedy"), rows, "none"))
        return
    found = REASONS.get(code.upper())
    if found is None:
        raise Rejection(UNKNOWN_CODE, f"{code[:40]!r} is no code")
    value = {"code": found.code, "name": found.name, "meaning": found.meaning, "remedy": found.remedy}
    emit(as_json, value, lambda: facts(value.items()))


def version(as_json: JsonOption = False) -> None:
    """The version of this program."""
    value = {"version": __version__}
    emit(as_json, value, lambda: facts(value.items()))


def _load_reasons() -> None:
    """Import every module named `reasons`; nothing else of the packages."""
    for package in ("gensyn_node", "consensus", "proofs", "p2p", "ml"):
        root = importlib.import_module(package)
        for module in pkgutil.iter_modules(root.__path__, f"{package}."):
            if module.name.endswith(".reasons"):
                importlib.import_module(module.name)
            elif module.ispkg:
                _load_inner(module.name)


def _load_inner(package: str) -> None:
    inner = importlib.import_module(package)
    for module in pkgutil.iter_modules(inner.__path__, f"{package}."):
        if module.name.endswith(".reasons"):
            importlib.import_module(module.name)
