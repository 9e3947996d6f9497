"""The encoder's child process: tokens, forward pass, canary, step loop."""
