"""What an honest party stands for follows by the rules bit by bit, whatever came in: NaN payloads, infinities."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from proofs.arithmetic.whole import compute_value
from proofs.sampling import batch_indices
from tests.disputes.architectures import ARCHITECTURES, FIRST_STEP, SEED, SEGMENT_STEPS


def test_every_value_of_an_honest_run_is_the_definition_s(tmp_path: Path) -> None:
    world = ARCHITECTURES["every-operator"](tmp_path)
    program, context, oracle = world.run.program, world.context, world.honest
    roots = oracle.state_roots(FIRST_STEP, SEGMENT_STEPS)
    execution = oracle._execution
    for step in (FIRST_STEP + SEGMENT_STEPS - 1,):
        values = execution.values(step)
        assert context.state_root(step, oracle.entry_roots(step)) == roots[step - FIRST_STEP]
        for number, node in enumerate(program.nodes, program.first_node_value):
            expected = compute_value(node, [values[value] for value in node.inputs])
            assert expected.tobytes() == values[number].tobytes(), (step, number, node)
        for number in range(len(program.batch)):
            dataset = world.run.dataset.array(program.batch[number].name)
            indices = batch_indices(SEED, step, program.batch_size, len(dataset))
            assert np.ascontiguousarray(dataset[indices]).tobytes() == values[len(program.state) + number].tobytes()
        listed = oracle.value_roots(step)
        outputs = []
        for value in program.state_outputs:
            index = context.list_index_of(value)
            entries = oracle.entry_roots(step)
            outputs.append(context.unlisted_root(step, value, entries) if index is None else listed[index])
        assert context.state_root(step + 1, outputs) == roots[step + 1 - FIRST_STEP]
