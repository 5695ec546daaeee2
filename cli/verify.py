"""`gensyn verify CERTIFICATE`: offline, on any machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import HomeOption, JsonOption, home_of
from cli.output import emit, errors, facts

if TYPE_CHECKING:
    from gensyn_node.sdk.verify import Verified


def _meaning(found: Verified) -> list[tuple[str, str]]:
    """What verified means where it does not mean equal bits."""
    from proofs.classes import REP_V1

    if found.arithmetic == REP_V1:
        return []
    near = "the verifiers' own executions ended near it, within the distance that profilers measured for this task"
    looked = f"{found.looked_at} verdicts were beyond it and rest on every operator's proven bound"
    return [("Verified means", f"not equal bits: {near}; {looked}")]


def verify(
    certificate: Annotated[Path, typer.Argument(help="The .cert file.")],
    model: Annotated[Path | None, typer.Option("--model", help="The model.safetensors to compare.")] = None,
    genesis: Annotated[
        Path | None, typer.Option("--genesis", help="The genesis you trust (else the home's, when there is one).")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a certificate without any network: signatures, proof, record, and the model itself."""
    from gensyn_node.config.genesis import read_genesis
    from gensyn_node.rpc.json_view import to_json
    from gensyn_node.sdk.certificate import read_certificate
    from gensyn_node.sdk.verify import verify_certificate

    path = genesis or home_of(home).genesis
    trusted = read_genesis(path) if genesis is not None or path.exists() else None
    found = verify_certificate(read_certificate(certificate), trusted=trusted, model=model)
    value = {"valid": True, **to_json(found)}

    def show() -> None:
        facts(
            [
                ("Certificate", "valid"),
                ("Task", f"{found.name} {found.task_id.hex()}"),
                ("Result", f"{found.state}: {found.steps} steps"),
                ("Final state", found.final_root.hex()),
                ("Verified", f"{found.segments_verified} of {found.segments} segments, {found.verdicts} verdicts"),
                *_meaning(found),
                ("Disputes", found.disputes),
                ("Signed by", f"{found.signed_power} of {found.total_power} power, block {found.height}"),
                ("Chain", f"{found.chain_id}, genesis {found.genesis_hash.hex()}"),
                ("Model", "its tensors are the certified ones" if found.model_checked else "not given (--model FILE)"),
            ]
        )
        if not found.genesis_trusted:
            errors.print("No genesis to compare with: this holds for the chain whose genesis hash is printed above.")

    emit(as_json, value, show)
