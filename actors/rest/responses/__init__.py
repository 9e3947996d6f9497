"""OpenAI's Responses API over the one way to generate, stored so that readers may come back for the rest."""
