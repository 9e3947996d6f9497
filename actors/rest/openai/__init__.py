"""OpenAI's API at `/v1`: its requests, replies, streams and errors, translated onto the one `Generate` path."""
