"""What a segmentation consists of, small enough to be kept: its parts, without their voxels."""

from __future__ import annotations

from autoseg.core.artifact import Frozen


class Parts(Frozen):
    """The parts of one case's segmentation.

    A part is a connected component of a structure; where structures overlap, what components
    have in common, of one label index. The voxels of a part stay or go together.

    Attributes:
        indices: label index of each part.
        voxels: size of each part.
        counted: its voxels that are not to be ignored.
        memberships: of each part in each structure it is in: its number, the structure's number in
            declared order, the structure's connected component that it is in (from 1), and its
            voxels that the reference counts to the structure, too.
        reference: voxels of each structure in the reference, in declared order.
        voxel_ml: volume of a voxel; None in pictures, which have none.
    """

    indices: tuple[int, ...]
    voxels: tuple[int, ...]
    counted: tuple[int, ...]
    memberships: tuple[tuple[int, int, int, int], ...]
    reference: tuple[int, ...]
    voxel_ml: float | None
