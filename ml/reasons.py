"""Reasons for refusing a capture (E1530 and up) and what a worker is given (E19)."""

from gensyn_node.primitives.errors import reason

NOT_LOWERABLE = reason(
    "E1530",
    "not_lowerable",
    "The training step uses a tensor operation that has no exact meaning in the opset.",
    "Write that part of the module with the operations named in the message.",
)
NOT_TRACEABLE = reason(
    "E1531",
    "not_traceable",
    "The training step could not be recorded as one graph.",
    "Avoid Python branches on tensor values, in-place changes of buffers and random numbers inside the module.",
)
NOT_EAGER = reason(
    "E1532",
    "not_eager",
    "The captured graph does not compute what PyTorch computes on a real batch.",
    "Rewrite the operation nearest to the first differing tensor as an explicit formula.",
)
BAD_PRESET = reason(
    "E1533",
    "bad_preset",
    "A preset's or an optimizer's configuration is not usable.",
    "Correct the named field; the message says what it may be.",
)
BAD_OPTIMIZER = reason(
    "E1534",
    "bad_optimizer",
    "The optimizer or its schedule cannot be written as formulas of the opset.",
    "Give SGD, Adam or AdamW and a schedule that is a formula of the step, as the message says.",
)
DATA_DEPENDENT = reason(
    "E1535",
    "data_dependent",
    "What the module does, or the size of what it makes, depends on the values of tensors.",
    "Use torch.where or a mask, so that every batch does the same operations.",
)
FOREIGN_DTYPE = reason(
    "E1536",
    "foreign_dtype",
    "A tensor has a dtype that the opset does not have.",
    "Use float32, int64, bool and uint8.",
)
CLOSED_OVER = reason(
    "E1537",
    "closed_over",
    "The module uses a tensor that is neither parameter, buffer nor input.",
    "Register it with register_buffer, or make it in the forward pass.",
)
RANDOM = reason(
    "E1538",
    "random_operation",
    "The module draws random numbers in a way that has no formula in the opset.",
    "Use dropout, torch.rand, torch.randn, bernoulli or randint, as the message says.",
)
BAD_MODEL_FILE = reason(
    "E1539",
    "bad_model_file",
    "The model's file cannot be used.",
    "Correct it as the message says; the function returns a torch.nn.Module, or (module, loss, optimizer).",
)
BAD_WEIGHTS = reason(
    "E1540",
    "bad_weights",
    "The file of weights is no start for this model.",
    "Give a .safetensors file with exactly the model's tensors (state_dict), or a model that a task gave.",
)
BAD_ADAPTERS = reason(
    "E1541",
    "bad_adapters",
    "The adapters under [model.lora] do not fit the model.",
    "Correct rank, alpha or targets; the message says which linear layers there are.",
)
BAD_DATASET = reason(
    "E1901", "bad_dataset", "The data set is not usable.", "Correct the file; the message says where it differs."
)
BAD_CHECKPOINT = reason(
    "E1902",
    "bad_checkpoint",
    "A checkpoint does not hold exactly the state that the program has.",
    "Fetch it again, or name the checkpoint of this program and step.",
)
BAD_REQUEST = reason(
    "E1903", "bad_worker_request", "The worker was asked for something that makes no sense.", "Correct the request."
)
CANCELLED = reason(
    "E1904", "cancelled", "The work was cancelled.", "Start it again; it resumes at the last checkpoint."
)
OUT_OF_MEMORY = reason(
    "E1905",
    "out_of_memory",
    "The work needs more memory than it was granted.",
    "Grant more memory or take smaller tasks.",
)
WORKER_DIED = reason(
    "E1906", "worker_died", "The worker process ended without an answer.", "Look into the worker's log; then retry."
)
DEVICE_NOT_EXACT = reason(
    "E1908",
    "device_not_exact",
    "The device that was chosen is not here, or does not give the bits of rep-v1.",
    "Look at gensyn node doctor, and set worker.device to one that is exact.",
)
NO_PARTS = reason(
    "E1909",
    "no_parts",
    "A step of the program cannot be done in parts of its batch with the same bits.",
    "Do it whole, with more memory; the message names the node that forbids parts.",
)
DATASET_MISMATCH = reason(
    "E1907",
    "dataset_mismatch",
    "The data set does not fit the program.",
    "Build the program for this data: names, dtypes and record shapes must agree.",
)
