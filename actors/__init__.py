"""The actors of the LeanVibe server. `application.py` defines their tree as data."""
