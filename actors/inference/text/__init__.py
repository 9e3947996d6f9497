"""Text in and out of the model: chat template, tokenizer, detokenizer, stop matcher. No I/O, no MLX."""
