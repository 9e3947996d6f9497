"""Text in and out of the model: chat template, tokenizer, detokenizer, stop matcher. Pure, without MLX."""
