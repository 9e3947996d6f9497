"""`leanvibe`: one file for each group of commands."""
