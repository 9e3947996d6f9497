"""Who may enter. Connections and REST ask this room through its `messages`."""
