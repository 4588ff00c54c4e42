"""Broken input on purpose, for everything that samlet reads from outside.

`python -m fuzz.mutants` gives each reader thousands of damaged files, in processes with little memory, and counts what
is not a refusal in one sentence. `python -m fuzz.guided` searches for inputs that reach new code. See fuzz/README.md.
"""
