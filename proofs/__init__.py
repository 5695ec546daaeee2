"""Pure proof machinery: commitments, step programs, exact arithmetic, sampling and the pinpoint game.

Reading order: `merkle`, `tensors`, `state`, `dataset`, `sampling`, `philox`; `program/` (what a step program is, its
operators, validation, gas); `arithmetic/` (the exact meaning of every operator, tile by tile, numpy only); `pinpoint/`
(the dispute game). Flows in: bytes, integers and numpy arrays. Flows out: roots, verdicts, moves.
Never imports trio, libp2p, plyvel, torch, time or random.
"""
