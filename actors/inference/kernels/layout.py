"""Field offsets in the integer tables that describe a model and a call: only addresses and sizes cross into compiled code."""

__all__ = [
    "ATTENTION_OUTPUT",
    "BIASES",
    "BITS",
    "CACHES",
    "CACHE_FIELDS",
    "COSINES",
    "DOWN_PROJECTION",
    "FINAL_NORM",
    "GATE",
    "GATE_UP_PROJECTION",
    "GROUP",
    "HALF_ROTATED",
    "HEADS",
    "HEAD_WIDTH",
    "HIDDEN",
    "INTERMEDIATE",
    "KEYS",
    "KEY_HEADS",
    "LAYERS",
    "LAYER_FIELDS",
    "NORMED",
    "NORM_AFTER",
    "NORM_BEFORE",
    "OUTPUT_PROJECTION",
    "PARTS",
    "PART_FIELDS",
    "PART_FIRST_ROW",
    "PART_FIRST_TOKEN",
    "PART_KNOWN",
    "PART_LENGTH",
    "PART_ROWS",
    "PROJECTION_FIELDS",
    "QKV",
    "QKV_PROJECTION",
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
"""Fields of a projection: addresses, bits of a packed weight (0 for float32), and inputs per scale."""
QKV_PROJECTION, OUTPUT_PROJECTION, GATE_UP_PROJECTION, DOWN_PROJECTION = (
    PROJECTION_FIELDS * place for place in range(4)
)
"""The fields of the projections come first in a layer's row."""
NORM_BEFORE = 4 * PROJECTION_FIELDS
NORM_AFTER = NORM_BEFORE + 1
CACHES = NORM_AFTER + 1
"""Then the fields of each part's cache."""
PARTS = 2
"""Groups of rows of different lengths in one call: prompts being read, and rows that decode."""
KEYS, VALUES, CACHE_FIELDS = 0, 4, 8
"""Fields of a part's cache in a layer: address, and strides in bytes by row, by head and by position."""
LAYER_FIELDS = CACHES + PARTS * CACHE_FIELDS

PART_FIRST_TOKEN, PART_FIRST_ROW, PART_ROWS, PART_LENGTH, PART_KNOWN, PART_FIELDS = range(6)
"""Fields of a part: its offset among all tokens and among all rows, its rows and their common length, and positions in its
cache before
the call."""

(
    TOKENS, LAYERS, HIDDEN, HEADS, KEY_HEADS, HEAD_WIDTH, INTERMEDIATE, HALF_ROTATED, WINDOW,
    SOURCE, TARGET, FINAL_NORM, STATES, NORMED, QKV, ATTENTION_OUTPUT, GATE, UP, COSINES, SINES, SIZE_FIELDS,
) = range(21)  # fmt: skip
"""Sizes, over all parts together; ``WINDOW`` is 0 for none. From ``SOURCE`` on they are addresses: embedded tokens and normalized
states in row order, and tiles in between."""
