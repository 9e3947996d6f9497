"""Several nodes on one database: who lives, and how they hear of each other. Only there if the setting `broker` is set."""
