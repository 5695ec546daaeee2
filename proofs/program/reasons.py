"""Reasons for refusing a step program (E1501 to E1529; capture has E1530 and up)."""

from gensyn_node.primitives.errors import reason

UNKNOWN_OPERATOR = reason(
    "E1501", "unknown_operator", "A node names an operator that is not in the opset.", "Use operators of opset 1 only."
)
BAD_ARITY = reason(
    "E1502", "bad_arity", "A node has too few or too many inputs.", "Look up the operator in the table of the opset."
)
BAD_ATTRIBUTES = reason(
    "E1503",
    "bad_attributes",
    "A node's attributes do not have the meaning that its operator needs.",
    "Look up the operator in the table of the opset.",
)
BAD_DTYPE = reason(
    "E1504", "bad_dtype", "An operator is not defined on this element type.", "Insert a cast before the operator."
)
BAD_SHAPE = reason(
    "E1505", "bad_shape", "An operator is not defined on these shapes.", "Reshape or broadcast the inputs first."
)
BAD_ORDER = reason(
    "E1506",
    "bad_order",
    "A node uses a value that does not exist before it.",
    "List the nodes in topological order.",
)
PROGRAM_TOO_BIG = reason(
    "E1507",
    "program_too_big",
    "The program exceeds a bound on nodes, elements, pieces, memory or gas.",
    "Use a smaller model, a smaller batch, or split the step.",
)
BAD_NAME = reason(
    "E1508",
    "bad_name",
    "A state entry or batch input has an unusable or repeated name.",
    "Use 1 to 128 characters of a-z, A-Z, 0-9, '.', '_' and '-', each name once.",
)
BAD_OUTPUTS = reason(
    "E1509",
    "bad_outputs",
    "The state outputs or the loss do not have the types they must have.",
    "Give every state entry one output of its own type, and an f32 scalar loss.",
)
UNSUPPORTED_OPSET = reason(
    "E1510", "unsupported_opset", "The program uses another opset.", "Capture the program again with this version."
)
BAD_INITIAL = reason(
    "E1511",
    "bad_initial",
    "A state entry's initial value does not fit its type.",
    "Use uniform for f32 only, seed for i64 of shape (2,), and fill bits that fit the element.",
)
