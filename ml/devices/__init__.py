"""rep-v1 on CUDA and MPS: the same bits from kernels in C-like source, made from the descriptions that the CPU uses.

Reading order: `source` (a kernel is the body of one work item; groups of elementwise operators become one),
`fixed` (products, sums, maxima, gradients of tables), `dialects` (CUDA and Metal around such a body), `backend`
(compiling and launching through torch), `interpreter` (a step of a program on a device; what has no kernel runs by
`ml.reference`), `self_test` (known answers: no device is offered that does not give every one of these bits).
"""
