"""Looking into the live server over a Unix socket: what `leanvibe inspect` and the scripts talk to."""
