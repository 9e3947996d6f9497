"""The encoder's worker process: tokens, forward pass, canary, step loop."""
