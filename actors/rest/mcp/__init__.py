"""The Model Context Protocol over streamable HTTP: tools and resources for agents."""
