"""The Model Context Protocol over streamable HTTP: agents use what this server keeps by tools and resources."""
