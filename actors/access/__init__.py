"""Access control: tokens, identities, and the Host and Origin rules. Other services ask through `messages`."""
