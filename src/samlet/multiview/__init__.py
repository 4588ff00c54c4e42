"""A prompt on one picture of a posed set becomes masks on all of them, and a mask in space.

After Segment Anything in 3D with NeRFs (Cen et al. 2023): masks are lifted into a grid of voxels, the grid is looked at
from the next view, and what is seen there prompts the model (cross-view self-prompting), unless its answer contradicts
the grid (overlap-aware rejection). There is no radiance field here and none is needed: voxels are kept or cut away by
the silhouettes of all views together, a visual hull by votes. What no silhouette shows, a dent or the space between two
things that look joined from everywhere, it cannot know.
"""

from samlet.answerer import Answerer
from samlet.multiview.cameras import Camera, load_cameras, scene_bounds
from samlet.multiview.cloud import to_ply
from samlet.multiview.lift import Lift, Settings, lift
from samlet.multiview.voxels import Voxels

__all__ = [
    "Answerer",
    "Camera",
    "Lift",
    "Settings",
    "Voxels",
    "lift",
    "load_cameras",
    "scene_bounds",
    "to_ply",
]
