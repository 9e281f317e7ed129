"""What a user may ask of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite

from autoseg.core.geometry import Triple
from autoseg.core.model import Model
from autoseg.core.plan import Axes
from autoseg.errors import AutosegError
from autoseg.io.nnunet_plans import PeerPlans
from autoseg.plan.presets import Preset, find_preset
from autoseg.plan.rules import RULES, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What a user may ask of a plan.

    Args:
        name: the plan's name.
        preset: a name in ``PRESETS``.
        budget_bytes: GPU memory; None if the user named none: the preset's own then counts
            (8 GB for the default; a GB is 10**9 bytes).
        spacing: target spacing in mm, ``(z, y, x)`` of the raw images; None to derive it.
        patch_size: voxels in the plan's axis order: three for the 3D configurations, two for
            the 2D one; None to derive them.
        batch_size: patches per step, of all configurations; None to derive it.
        mirror_axes: axes of the raw images, 0 to 2, that may be mirrored; None to derive them.
        compatible: decide as nnU-Net does where autoseg has a rule of its own.
        base_features: channels of the first stage; None for the preset's.
        without: rules of autoseg's own that are not to count; all of them if ``compatible``.
        source: a model whose plan is to be kept; None to derive one.
        peer: a plan of nnU-Net that is to be adopted; None to derive one.

    Raises:
        AutosegError: if a value cannot be planned with.
        UnknownNameError: if there is no such preset.
    """

    name: str = "default"
    preset: str = "default"
    budget_bytes: int | None = None
    spacing: Triple | None = None
    patch_size: Axes | None = None
    batch_size: int | None = None
    mirror_axes: Axes | None = None
    compatible: bool = False
    base_features: int | None = None
    without: frozenset[Rule] = frozenset()
    source: Model | None = None
    peer: PeerPlans | None = None

    def __post_init__(self) -> None:
        find_preset(self.preset)
        if self.base_features is not None and self.base_features < 1:
            raise AutosegError(
                f"{self.base_features} base features", remedy="give 1 or more (--base-features)"
            )
        if self.budget_bytes is not None and self.budget_bytes < 1:
            raise AutosegError(
                f"a GPU memory of {self.budget_bytes} bytes", remedy="give a positive --gpu-memory"
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise AutosegError(
                f"a batch of {self.batch_size}", remedy="give 1 or more (--batch-size)"
            )
        self._check_axes()
        self._check_source()

    def _check_axes(self) -> None:
        spacing, patch_size = self.spacing, self.patch_size
        if spacing is not None and not (
            len(spacing) == 3 and all(isfinite(mm) and mm > 0 for mm in spacing)
        ):
            raise AutosegError(
                f"a target spacing of {list(spacing)}",
                remedy="give three positive numbers in mm, z,y,x (--spacing)",
            )
        if patch_size is not None and (len(patch_size) not in (2, 3) or min(patch_size) < 1):
            raise AutosegError(
                f"a patch of {list(patch_size)}",
                remedy="give three positive numbers for 3D or two for 2D (--patch-size)",
            )
        if self.mirror_axes is not None and not set(self.mirror_axes) <= {0, 1, 2}:
            raise AutosegError(
                f"mirror axes {list(self.mirror_axes)}",
                remedy="give some of 0 (z), 1 (y), 2 (x) (--mirror-axes)",
            )

    def _check_source(self) -> None:
        """What shapes the network is the model's or nnU-Net's, if there is one."""
        shaping = {
            "--spacing": self.spacing is not None,
            "--preset": self.preset != "default",
            "--base-features": self.base_features is not None,
        }
        if self.peer is not None:
            shaping["--patch-size"] = self.patch_size is not None
            shaping["--from-model"] = self.source is not None
            self._refuse(shaping, "--from-nnunet, which adopts nnU-Net's")
        elif self.source is not None:
            shaping["--compatible"] = self.compatible
            self._refuse(shaping, "--from-model, which keeps the model's")

    def _refuse(self, shaping: Mapping[str, bool], beside: str) -> None:
        given = [flag for flag, is_given in shaping.items() if is_given]
        if given:
            raise AutosegError(
                f"{given[0]} means nothing with {beside}", remedy=f"leave out {given[0]}"
            )

    @property
    def network(self) -> Preset:
        """The preset, with what the user changed about it."""
        preset = find_preset(self.preset)
        if self.base_features is None:
            return preset
        return replace(preset, base_features=self.base_features)

    @property
    def budget(self) -> int:
        """GPU memory in bytes to plan for."""
        return self.budget_bytes or find_preset(self.preset).budget_bytes

    @property
    def rules(self) -> frozenset[Rule]:
        """The rules of autoseg's own that are in force."""
        return frozenset[Rule]() if self.compatible else RULES - self.without
