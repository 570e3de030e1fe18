"""Searches over what can be rented and how it can be divided, each row answered by the command that it names."""
