"""What the tasks room takes and tells. Other rooms import this file and nothing else of the room."""
