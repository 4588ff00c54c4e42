"""Where the original keeps the helpers of its automatic mask generator."""

from samlet.compat.segment_anything.amg import *  # noqa: F403
