"""The worker: training, verifying and answering disputes in a process of its own (`python -m ml.worker`).

In and out: frames of codec structs over stdin and stdout (`messages`, `frames`). One request at a time; `Cancel` or the
end of stdin stops the process. `process` starts one with a bare environment, `main` is the process, `sandbox` its
limits, `service` does the requests. The node imports `messages`, `frames` and `process` only: no torch in the node.
"""
