"""Arithmetic classes: the named field of a task that says which results count as right."""

REP_V1 = "rep-v1"
"""Equal bits on every machine."""
NATIVE = "native"
"""Vendor kernels: every operator within its forward-error bound of `rep-v1` on the same inputs."""
