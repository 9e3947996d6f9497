"""What compiled code is told of a model and of a call: places in tables of integers, since only addresses and sizes cross the border."""

__all__ = [
    "BIASES",
    "BITS",
    "COSINES",
    "DOWN_PROJECTION",
    "FINAL_NORM",
    "GATE",
    "GATE_UP_PROJECTION",
    "GROUP",
    "HALF_TURNED",
    "HEADS",
    "HEAD_WIDTH",
    "HIDDEN",
    "INTERMEDIATE",
    "KEYS",
    "KEY_HEADS",
    "KNOWN",
    "LAYERS",
    "LAYER_FIELDS",
    "LENGTH",
    "MIXED",
    "NORMED",
    "NORM_AFTER",
    "NORM_BEFORE",
    "OUTPUT_PROJECTION",
    "PROJECTION_FIELDS",
    "QKV",
    "QKV_PROJECTION",
    "ROWS",
    "SCALES",
    "SINES",
    "SIZE_FIELDS",
    "SOURCE",
    "STATES",
    "TARGET",
    "TOKENS",
    "UP",
    "VALUES",
    "WEIGHT",
    "WINDOW",
]

WEIGHT, SCALES, BIASES, BITS, GROUP, PROJECTION_FIELDS = range(6)
"""Of a projection: addresses, bits of a packed weight (0 for float32), and inputs to a scale."""
QKV_PROJECTION, OUTPUT_PROJECTION, GATE_UP_PROJECTION, DOWN_PROJECTION = (
    PROJECTION_FIELDS * place for place in range(4)
)
"""Their fields come first in a layer's row."""
NORM_BEFORE = 4 * PROJECTION_FIELDS
NORM_AFTER = NORM_BEFORE + 1
KEYS = NORM_AFTER + 1
"""Address, and steps in bytes from row to row, from head to head and from position to position."""
VALUES = KEYS + 4
LAYER_FIELDS = VALUES + 4

(
    TOKENS, ROWS, LENGTH, LAYERS, HIDDEN, HEADS, KEY_HEADS, HEAD_WIDTH, INTERMEDIATE, HALF_TURNED, KNOWN, WINDOW,
    SOURCE, TARGET, FINAL_NORM, STATES, NORMED, QKV, MIXED, GATE, UP, COSINES, SINES, SIZE_FIELDS,
) = range(24)  # fmt: skip
"""Sizes: tokens are rows times length; ``KNOWN`` positions are in the cache before the call; ``WINDOW`` is 0 for none.
The rest are addresses: embedded tokens and normalized states row by row, and tiles in between."""
