"""Kernels that are no loops over elements: products, sums in lanes, maxima, the gradient of a table. f32 throughout.

Each work item owns its outputs and goes through its terms in the order of the definition, so neither the number of
threads nor their schedule changes a bit.
"""

from __future__ import annotations

from ml.devices.source import KernelSource

BLOCK = 4
"""Rows and columns of a product that one work item owns."""

MATMUL = KernelSource(
    "matmul",
    (("const float", "a"), ("const float", "b"), ("float", "c")),
    # n: items, rows, terms, columns, elements between two of a's matrices, of b's, row blocks, column blocks
    """
LONG rows = n[1], terms = n[2], columns = n[3];
LONG column = i % n[7] * 4, rest = i / n[7];
LONG row = rest % n[6] * 4, batch = rest / n[6];
LONG at = batch * n[4], bt = batch * n[5], ct = batch * rows * columns;
float sum[4][4];
for (int u = 0; u < 4; u++) for (int v = 0; v < 4; v++) sum[u][v] = 0.0f;
for (LONG k = 0; k < terms; k++) {
  float left[4], right[4];
  for (int u = 0; u < 4; u++) left[u] = row + u < rows ? a[at + (row + u) * terms + k] : 0.0f;
  for (int v = 0; v < 4; v++) right[v] = column + v < columns ? b[bt + k * columns + column + v] : 0.0f;
  for (int u = 0; u < 4; u++) for (int v = 0; v < 4; v++) sum[u][v] = ADD(sum[u][v], MUL(left[u], right[v]));
}
for (int u = 0; u < 4; u++) for (int v = 0; v < 4; v++)
  if (row + u < rows && column + v < columns) c[ct + (row + u) * columns + column + v] = sum[u][v];
""",
)

_HALVES = """
for (int half_ = 16; half_ > 0; half_ /= 2)
  for (int l = 0; l < half_; l++) lanes[l] = ADD(lanes[l], lanes[l + half_]);
y[i] = lanes[0];
"""
_LANES = "float lanes[32];\nfor (int l = 0; l < 32; l++) lanes[l] = 0.0f;\n"

SUM_LAST = KernelSource(
    "sum_last",
    (("const float", "x"), ("float", "y")),
    # n: rows, columns
    _LANES + "for (LONG k = 0; k < n[1]; k++) lanes[k % 32] = ADD(lanes[k % 32], x[i * n[1] + k]);" + _HALVES,
)

SUM_FIRST = KernelSource(
    "sum_first",
    (("const float", "x"), ("float", "y")),
    # n: columns, rows
    _LANES + "for (LONG k = 0; k < n[1]; k++) lanes[k % 32] = ADD(lanes[k % 32], x[k * n[0] + i]);" + _HALVES,
)

ARGMAX_LAST = KernelSource(
    "argmax_last",
    (("const float", "x"), ("LONG", "y")),
    # n: rows, columns
    """
LONG chosen = 0;
float best = x[i * n[1]];
for (LONG k = 1; k < n[1]; k++) {
  float item = x[i * n[1] + k];
  if (best == best && (item > best || item != item)) { best = item; chosen = k; }
}
y[i] = chosen;
""",
)

MAX_LAST = KernelSource(
    "max_last",
    (("const float", "x"), ("float", "y")),
    # n: rows, columns
    """
float best = x[i * n[1]];
for (LONG k = 1; k < n[1]; k++) {
  float item = x[i * n[1] + k];
  if (best == best && (item > best || item != item)) best = item;
}
y[i] = best != best ? CONSTANT(0x7fc00000) : best;
""",
)

EMBEDDING_GRAD = KernelSource(
    "embedding_grad",
    (("const float", "gradient"), ("const LONG", "ids"), ("float", "table")),
    # n: columns, positions, rows of the table, which is all noughts before
    """
for (LONG k = 0; k < n[1]; k++) {
  LONG row = ids[k];
  if (row >= 0 && row < n[2]) table[row * n[0] + i] = ADD(table[row * n[0] + i], gradient[k * n[0] + i]);
}
""",
)

ALL = (MATMUL, SUM_LAST, SUM_FIRST, ARGMAX_LAST, MAX_LAST, EMBEDDING_GRAD)
