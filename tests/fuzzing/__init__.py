"""Random input for fuzzers, from generators that a seed determines."""
