"""The worker: training, verifying and answering disputes in a process of its own (`python -m ml.worker`).

In and out: frames of codec structs over stdin and stdout (`messages`, `frames`). One request at a time; `Cancel` or the
end of stdin stops the process. `process` starts one with a bare environment, `main` is its entry, `sandbox` (over
`landlock` and `system_calls`) holds it in before any library is loaded, `serving` reads requests, `service` does them.
The node imports `messages`, `frames`, `process` and `sandbox` only: no torch in the node.
"""
