"""Reasons of commitments and disputes (E14)."""

from gensyn_node.primitives.errors import reason

NOT_YOUR_TURN = reason(
    "E1401",
    "not_your_turn",
    "The other party of the dispute has to move.",
    "Wait for its move or for its clock to run out.",
)
GAME_OVER = reason(
    "E1402", "game_over", "The dispute has an outcome; nothing can change it.", "See the outcome with `gensyn dispute`."
)
WRONG_MOVE = reason(
    "E1403",
    "wrong_move",
    "The dispute is in a phase that needs another kind of move.",
    "Read its phase and answer that.",
)
MOVE_TOO_LARGE = reason(
    "E1404",
    "move_too_large",
    "The move is larger than any honest move needs.",
    "Supply the tiles of the one piece only.",
)
BAD_CLAIM = reason(
    "E1405", "bad_claim", "The claim does not describe a dispute that can be played.", "Check steps, roots and sizes."
)
BAD_TILE = reason(
    "E1406", "bad_tile", "A tile does not belong to the tensor it is said to be of.", "Take the tile and its path anew."
)
BAD_CHUNK = reason(
    "E1407", "bad_chunk", "A chunk does not belong to the blob it is said to be of.", "Fetch it from another peer."
)
BAD_SAMPLE = reason(
    "E1408", "bad_sample", "A draw of records or segments is out of its bounds.", "Check the numbers of the task."
)
