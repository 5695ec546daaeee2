"""Recurrent layers written out with the records first: rows of (record, time), not of (time, record) as in the library.

Only so can a sum over a batch of sequences be made some records at a time (`ml/microbatch`). The two biases of a layer
are added to each other once; the library adds them to every gate of every place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import _VF
from torch.nn import functional

Hidden = tuple[torch.Tensor, ...]
"""What a cell carries from place to place: h, and c where it has one; each (records, width)."""
Cell = Callable[[torch.Tensor, Hidden, torch.Tensor, torch.Tensor | None], Hidden]
"""(the input's share of the gates, hidden, weights of h, their bias) → hidden."""


def _lstm_cell(given: torch.Tensor, hidden: Hidden, weight: torch.Tensor, bias: torch.Tensor | None) -> Hidden:
    gates = given + functional.linear(hidden[0], weight, bias)
    entry, forget, candidate, out = gates.chunk(4, -1)
    memory = torch.sigmoid(forget) * hidden[1] + torch.sigmoid(entry) * torch.tanh(candidate)
    return torch.sigmoid(out) * torch.tanh(memory), memory


def _gru_cell(given: torch.Tensor, hidden: Hidden, weight: torch.Tensor, bias: torch.Tensor | None) -> Hidden:
    from_input, from_hidden = given.chunk(3, -1), functional.linear(hidden[0], weight, bias).chunk(3, -1)
    reset = torch.sigmoid(from_input[0] + from_hidden[0])
    update = torch.sigmoid(from_input[1] + from_hidden[1])
    candidate = torch.tanh(from_input[2] + from_hidden[2] * reset)
    return (candidate + (hidden[0] - candidate) * update,)


def _plain_cell(activation: Callable[[torch.Tensor], torch.Tensor]) -> Cell:
    return lambda given, hidden, weight, bias: (activation(given + functional.linear(hidden[0], weight, bias)),)


def _layers(cell: Cell, theirs: Callable[..., Any], biases_join: bool) -> Callable[..., Any]:
    """A library function's replacement. Packed sequences go to the library's own, which capture refuses."""

    def run(x: torch.Tensor, start: Any, weights: Any, *rest: Any) -> Any:
        if len(rest) != 6:
            return theirs(x, start, weights, *rest)
        biased, layers, dropout, training, two_ways, batch_first = rest
        begin: Hidden = tuple(start) if isinstance(start, tuple | list) else (start,)
        each = len(weights) // (layers * (1 + two_ways))
        flow = x if batch_first else x.transpose(0, 1)
        ends: list[Hidden] = []
        for layer in range(layers):
            if layer and dropout and training:
                # Its numbers are drawn in the library's order, so that eager PyTorch has the same masks.
                flow = functional.dropout(flow.transpose(0, 1), dropout).transpose(0, 1)
            ways = []
            for way in range(1 + two_ways):
                place = layer * (1 + two_ways) + way
                own = weights[place * each : (place + 1) * each]
                hidden = tuple(item[place] for item in begin)
                outputs, end = _one_way(cell, flow, hidden, own, biased, biases_join, backwards=bool(way))
                ways.append(outputs)
                ends.append(end)
            flow = ways[0] if len(ways) == 1 else torch.cat(ways, -1)
        last = tuple(torch.stack([end[number] for end in ends]) for number in range(len(begin)))
        return (flow if batch_first else flow.transpose(0, 1), *last)

    return run


def _one_way(
    cell: Cell,
    x: torch.Tensor,
    hidden: Hidden,
    weights: Sequence[torch.Tensor],
    biased: bool,
    biases_join: bool,
    *,
    backwards: bool,
) -> tuple[torch.Tensor, Hidden]:
    """One layer in one direction over x (records, places, …): its outputs and last hidden values."""
    of_input, of_hidden = weights[0], weights[1]
    bias, hidden_bias = (weights[2], weights[3]) if biased else (None, None)
    projection = weights[2 + 2 * biased] if len(weights) > 2 + 2 * biased else None
    if biases_join and bias is not None and hidden_bias is not None:
        bias, hidden_bias = bias + hidden_bias, None
    given = functional.linear(x, of_input, bias).unbind(1)
    outputs: list[torch.Tensor] = []
    for item in reversed(given) if backwards else given:
        hidden = cell(item, hidden, of_hidden, hidden_bias)
        if projection is not None:
            hidden = (functional.linear(hidden[0], projection), *hidden[1:])
        outputs.append(hidden[0])
    if backwards:
        outputs.reverse()
    return torch.stack(outputs, 1), hidden


# A GRU multiplies the hidden values' share by a gate, its bias included: its biases stay two.
REPLACED: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
    (_VF, "lstm", _layers(_lstm_cell, _VF.lstm, biases_join=True)),
    (_VF, "gru", _layers(_gru_cell, _VF.gru, biases_join=False)),
    (_VF, "rnn_tanh", _layers(_plain_cell(torch.tanh), _VF.rnn_tanh, biases_join=True)),
    (_VF, "rnn_relu", _layers(_plain_cell(torch.relu), _VF.rnn_relu, biases_join=True)),
)
"""(owner, name, formula) of the library functions that recurrent modules call."""
