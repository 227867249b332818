"""Measurements of the core: `python -m bench`. What is measured, how, and what came out: README.md."""
