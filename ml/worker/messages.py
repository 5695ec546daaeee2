"""What a node and its worker say to each other: codec structs, one per frame.

A request is answered by any number of `Progress` and `SegmentDone`, then exactly one final reply: `Trained`,
`Verified`, `Responded`, `MemoryPredicted`, `Evaluated` or `Failed`. States lie in files that both sides can read,
named by `state_path`; roots travel in the messages.
"""

from __future__ import annotations

from pathlib import Path

from gensyn_node.primitives.codec import Struct
from proofs.classes import REP_V1

FRAME_BYTES_MAX = 8 << 20
"""One frame between a node and its own worker: a game with its evidence is far below this."""


DEVICES = ("cpu", "cuda", "mps")
"""Kinds of devices."""


class Fault(Struct):
    """One flipped bit, for rehearsals of disputes: element `element` of value `value` in step `step`."""

    step: int
    """-1: in the initial state."""
    value: int
    """Value number of a batch value or a node; of a state entry when the step is -1."""
    element: int
    """Taken modulo the value's elements."""
    bit: int
    """Taken modulo the bits of one element."""
    skip: bool = False
    """The step is left out altogether, to save the work; value, element and bit mean nothing."""


class Job(Struct):
    """What is trained: everything that decides the bits of every state."""

    program: bytes
    """Canonical encoding of the `Program`."""
    dataset_directory: str
    """A data set as `ml.data` lays it out (manifest and shards)."""
    seed: bytes
    """The task's 32-byte seed: initial values and batch order."""
    initial_path: str
    """Checkpoint with the `Given` entries (a state file of step 0); empty when all is made from the seed."""
    threads: int
    """Threads of the kernels; the bits do not depend on it."""
    fault: Fault | None = None
    """Only for rehearsals: a party that stands for a wrong result."""
    arithmetic: str = REP_V1
    """The task's arithmetic class; in NATIVE the bits depend on the machine and on `threads`."""
    device: str = "cpu"
    """Where REP_V1 is computed, one of DEVICES; the bits do not depend on it."""
    records: int = 0
    """Records of the batch that a step takes at a time, a divisor; 0: all. The bits do not depend on it."""


class Train(Struct, tag=0):
    """Train steps `first_step` … `first_step + steps - 1` and write a state at every segment's end.

    Asked again after an interruption, it continues from the last state written and reports the segments done before.
    """

    job: Job
    states_directory: str
    """Where states are written, and where the state of `first_step` is read (of step 0: made if it is not there)."""
    first_step: int
    steps: int
    segment_steps: int
    """A state is written after every multiple of this many steps, and after the last; `first_step` is a multiple."""
    progress_steps: int
    """A `Progress` every so many steps."""


class Verify(Struct, tag=1):
    """Re-run one segment from an agreed state and compare its end."""

    job: Job
    states_directory: str
    """Holds the state of `first_step` (of step 0: made if it is not there)."""
    first_step: int
    steps: int
    start_root: bytes
    """The committed root of the start state; the state file must match it."""
    claimed_end_root: bytes
    evidence_key: bytes = b""
    """What draws the samples of the evidence; empty: it is made of the state roots alone."""


class Respond(Struct, tag=2):
    """Make this party's next move in a pinpoint game by re-executing what the game asks about."""

    job: Job
    states_directory: str
    """Holds the state of the disputed segment's first step (or an earlier one of the same run)."""
    game: bytes
    """Canonical encoding of the `proofs.pinpoint` game as it stands; the move is that of the party whose turn it is."""


class PredictMemory(Struct, tag=3):
    """How much memory does a training of this program need?"""

    program: bytes
    threads: int
    arithmetic: str = REP_V1
    memory_bytes: int = 0
    """Parts of the batch are chosen as large as fits into so much, by prediction; 0: no bound, the batch whole."""
    records: int = 0
    """At most so many records at a time; 0: the batch."""
    measure: bool = False
    """Train a few steps on zeros and say what that took. What was asked before counts, too: use a new process."""


class Cancel(Struct, tag=4):
    """Stop: the worker leaves at the end of the step under way, and writes nothing more."""


class Evaluate(Struct, tag=5):
    """Mean loss of a state over batches drawn from a data set, without changing the state."""

    job: Job
    state_path: str
    first_step: int
    steps: int


class ExamineDevices(Struct, tag=6):
    """Which devices are here, and do they give the bits of REP_V1?"""


class Profile(Struct, tag=7):
    """How far are this machine's vendor kernels from REP_V1, on the first steps from the job's seed?"""

    job: Job
    steps: int


class Compare(Struct, tag=8):
    """Re-run one native segment from an agreed state and measure how far the claimed end is off."""

    job: Job
    states_directory: str
    """Holds the state of `first_step` (of step 0: made if it is not there) and the claimed end."""
    first_step: int
    steps: int
    start_root: bytes
    end_root: bytes


class Disclose(Struct, tag=9):
    """Run an own native segment again and write every value of every step."""

    job: Job
    states_directory: str
    values_directory: str
    first_step: int
    steps: int


class Look(Struct, tag=10):
    """Hold the disclosed values of one step against their bounds."""

    job: Job
    values_directory: str
    """Holds the step's values."""
    step: int
    start_root: bytes
    end_root: bytes
    values_root: bytes


class Accused(Struct):
    """What does not follow from its inputs in a disclosed step; see `proofs.native.strategy.Accusation`."""

    step: int
    value: int
    tile: int
    is_output: bool


class RespondNative(Struct, tag=11):
    """Make this party's next move in a native game."""

    job: Job
    states_directory: str
    values_directory: str
    game: bytes
    """Canonical encoding of the `proofs.native` game as it stands; the move is that of the party whose turn it is."""
    accused: Accused | None
    """As challenger: what it found."""


class ExamineNative(Struct, tag=12):
    """Do the vendor kernels repeat themselves and keep their bounds?"""

    threads: int


Request = (
    Train
    | Verify
    | Respond
    | PredictMemory
    | Cancel
    | Evaluate
    | ExamineDevices
    | Profile
    | Compare
    | Disclose
    | Look
    | RespondNative
    | ExamineNative
)


class Measure(Struct):
    """One thing that holds a worker in."""

    name: str
    active: bool
    detail: str
    """What it does, or why it is not in force."""


class Ready(Struct, tag=16):
    """First frame of a worker: it is up."""

    version: str
    torch_version: str
    sandbox: tuple[Measure, ...]
    """What holds the process in, see `ml.worker.sandbox`."""


class Progress(Struct, tag=17):
    """A step is done."""

    step: int
    """Its number, from 0."""
    loss: float
    step_seconds: float
    """Mean duration of a step since the last report."""


class SegmentDone(Struct, tag=18):
    """A state was written, synced to disk."""

    step: int
    """The state after this many steps."""
    state_root: bytes
    path: str
    loss: float
    """Loss of the segment's last step (NaN for the initial state, which is reported as well)."""


class Trained(Struct, tag=19):
    """The steps asked for are done."""

    first_step: int
    steps: int
    initial_root: bytes
    """Root of the state of `first_step`."""
    end_root: bytes
    losses: tuple[float, ...]
    """Losses of the last steps of the segments, in order."""


class Verified(Struct, tag=20):
    """The segment was re-executed."""

    agrees: bool
    step_roots: tuple[bytes, ...]
    """State roots R_0 … R_k of the segment, k + 1 of them, as re-executed."""
    end_root: bytes
    evidence_root: bytes
    """Binds all of `step_roots`, and the samples: what a verifier that approves commits to."""


class Responded(Struct, tag=21):
    """The next move of the game."""

    move: bytes
    """Canonical encoding of a `proofs.pinpoint` move."""


class MemoryPredicted(Struct, tag=22):
    """Peak bytes of a training run."""

    state_bytes: int
    step_bytes: int
    """State, batch and the values alive at the worst moment of one step."""
    process_bytes: int
    """What the process needs at most, as predicted: the libraries, a step, saving a state."""
    measured_bytes: int = 0
    """What it did need, resident; 0 when it was not asked to try."""
    records: int = 0
    """Records of the batch that a step takes at a time: all, or a divisor."""
    whole_because: str = ""
    """Why the batch cannot be taken in parts: the node that forbids it. Empty when that was not needed, or can be."""


class Evaluated(Struct, tag=23):
    """Mean loss over the batches."""

    loss: float


class DeviceFinding(Struct):
    """One kind of device."""

    name: str
    there: bool
    exact: bool
    """Whether it gave every known answer, bit for bit."""
    detail: str


class DevicesExamined(Struct, tag=25):
    """Every kind of device, here or not."""

    devices: tuple[DeviceFinding, ...]


class Failed(Struct, tag=24):
    """The request was refused or could not be finished; final."""

    code: str
    """A reason's code (E15…, E19…)."""
    message: str


class Profiled(Struct, tag=26):
    """Distances of the native end from the exact one, entry by entry."""

    distances: tuple[int, ...]


class Compared(Struct, tag=27):
    """The native segment was re-executed."""

    end_root: bytes
    """As re-executed."""
    evidence_root: bytes
    distances: tuple[int, ...]
    """Of the claimed end from the own one, entry by entry."""


class Disclosed(Struct, tag=28):
    """What the solver stands for in the segment; the values lie in the folder asked for."""

    state_roots: tuple[bytes, ...]
    values_roots: tuple[bytes, ...]


class Looked(Struct, tag=29):
    """What there is to say of a disclosed step."""

    served: bool
    """Whether the file holds what was disclosed."""
    accused: Accused | None
    """None: every value keeps its bound."""


class NativeExamined(Struct, tag=30):
    """Operators that failed; none: the class can be offered."""

    failing: tuple[str, ...]


Final = (
    Trained
    | Verified
    | Responded
    | MemoryPredicted
    | Evaluated
    | DevicesExamined
    | Profiled
    | Compared
    | Disclosed
    | Looked
    | NativeExamined
    | Failed
)
Reply = Ready | Progress | SegmentDone | Final


def state_path(states_directory: str | Path, step: int) -> Path:
    """The file of the state after `step` steps (step 0: the initial state)."""
    return Path(states_directory) / f"state-{step:010d}.safetensors"


def values_path(directory: str | Path, step: int) -> Path:
    """The file of all values of a native step, see `ml.native.values_file`."""
    return Path(directory) / f"values-{step:010d}.safetensors"
