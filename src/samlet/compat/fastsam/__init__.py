"""The interface of the `fastsam` package on samlet: change the import, keep the code.

    from samlet.compat.fastsam import FastSAM, FastSAMPrompt

Prompts mean what they mean there, with its faults mended; docs/how-to/from-fastsam.md lists the differences.
"""

from samlet.compat.fastsam.model import FastSAM
from samlet.compat.fastsam.prompt import FastSAMPrompt
from samlet.compat.fastsam.results import Results

__all__ = ["FastSAM", "FastSAMPrompt", "Results"]
