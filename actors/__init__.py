"""The actors of the LeanVibe server. `application.py` writes their whole tree down as data."""
