"""LLVM modules to machine code of this process, with no flag by which LLVM may reorder or contract arithmetic."""

from __future__ import annotations

from functools import lru_cache

from llvmlite import binding as llvm

from ml.kernels.processor import processor

_engines: list[llvm.ExecutionEngine] = []
"""Engines own the machine code; they live as long as the process."""


@lru_cache(maxsize=1)
def _target() -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    name, features = processor()
    return target.create_target_machine(cpu=name, features=features, opt=3)


def machine_code(assembly: str, *functions: str) -> tuple[int, ...]:
    """The addresses of these functions of a module given as LLVM assembly."""
    machine = _target()
    compiled = llvm.parse_assembly(assembly)
    compiled.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(compiled, builder)
    engine = llvm.create_mcjit_compiler(compiled, machine)
    engine.finalize_object()
    _engines.append(engine)
    return tuple(engine.get_function_address(name) for name in functions)
