"""Runs all that stands behind the tables of the paper; see ``scripts/reproduce_tables.py``."""
