"""What a user changed in a plan by hand, kept when the plan is made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from autoseg.core.plan import Configuration, Decision, Plan, TrainingSpec
from autoseg.errors import AutosegError
from autoseg.plan.presets import max_features
from autoseg.plan.request import PlanRequest
from autoseg.plan.topology import features_per_stage
from autoseg.plan.wishes import Wish

Field = Literal[
    "spacing",
    "patch_size",
    "batch_size",
    "base_features",
    "network",
    "batch_dice",
    "normalization",
    "use_mask_for_norm",
    "previous",
    "mirror_axes",
    "training",
]
FIELDS: tuple[Field, ...] = get_args(Field)
Changed = Mapping[str, frozenset[Field]]

_CASCADE, _CASCADE_IS_AS = "3d_cascade_fullres", "3d_fullres"
_SHAPING = ("spacing", "patch_size", "batch_size", "base_features")
_NONE: frozenset[Field] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Edits:
    """Fields of a plan that differ from what was planned.

    Attributes:
        place: the plan's file, for messages.
        before: the plan as edited; None if there is none.
        changed: by configuration, the fields that were edited.
        added: configurations that were not planned.
    """

    place: str = ""
    before: Plan | None = None
    changed: Changed = field(default_factory=dict[str, frozenset[Field]])
    added: tuple[str, ...] = ()

    def kept(self, name: str, request: PlanRequest) -> frozenset[Field]:
        """Edited fields of a configuration that no flag overrules."""
        changed = self.changed.get(name, _NONE)
        if self.before is None or not changed:
            return _NONE
        dimensions = self.before.configurations[name].dimensions
        overruled: set[Field] = set()
        if request.spacing is not None:
            overruled.add("spacing")
        if request.patch_size is not None and len(request.patch_size) == dimensions:
            overruled |= {"patch_size", "network"}
        if request.batch_size is not None:
            overruled.add("batch_size")
        if request.base_features is not None:
            overruled |= {"base_features", "network"}
        if request.mirror_axes is not None:
            overruled.add("mirror_axes")
        return changed - overruled

    def wish(self, name: str, request: PlanRequest) -> Wish:
        """What flags and edits say of a configuration; a cascade is as full resolution.

        Args:
            name: of the configuration, planned or not.
            request: its flags come first.
        """
        wish = self._edited(name, request)
        dimensions = 2 if name == "2d" else 3
        if request.patch_size is not None and len(request.patch_size) == dimensions:
            wish = replace(wish, patch_size=request.patch_size, patch_place="--patch-size")
        if request.batch_size is not None:
            wish = replace(wish, batch_size=request.batch_size)
        return wish

    def apply(self, name: str, configuration: Configuration, request: PlanRequest) -> Configuration:
        """A configuration with the edits that nothing else follows from."""
        kept = self.kept(name, request)
        if self.before is None or not kept:
            return configuration
        old = self.before.configurations[name]
        training = old.training if "training" in kept else configuration.training
        mirrored = old if "mirror_axes" in kept else configuration
        changes: dict[str, Any] = {
            key: getattr(old, key)
            for key in ("batch_dice", "normalization", "use_mask_for_norm", "previous")
            if key in kept
        }
        changes["training"] = training.model_copy(
            update={"mirror_axes": mirrored.training.mirror_axes}
        )
        return configuration.model_copy(update=changes)

    def keep(self, name: str, configuration: Configuration, request: PlanRequest) -> Configuration:
        """A configuration that nothing is derived for, with all edits."""
        applied, kept = self.apply(name, configuration, request), self.kept(name, request)
        if self.before is None or not kept:
            return applied
        old = self.before.configurations[name]
        changes: dict[str, Any] = {
            key: getattr(old, key) for key in ("spacing", "patch_size", "batch_size") if key in kept
        }
        if kept & {"network", "base_features"}:
            changes |= {"network": old.network, "patch_size": old.patch_size}
        return applied.model_copy(update=changes)

    def with_added(self, made: Mapping[str, Configuration]) -> dict[str, Configuration]:
        """The planned configurations, and those a user added.

        Raises:
            AutosegError: if one reads the predictions of a configuration that is not planned.
        """
        all_ = dict(made)
        if self.before is not None:
            all_ = {name: self.before.configurations[name] for name in self.added} | all_
        for name, configuration in all_.items():
            previous = configuration.previous
            if previous is not None and previous not in all_:
                raise AutosegError(
                    f"configurations.{name}.previous: '{previous}' is not planned any more",
                    place=self.place,
                    remedy="take it out, or plan under another name (--plan NAME)",
                )
        return {name: all_[name] for name in (*made, *(name for name in all_ if name not in made))}

    def check(
        self, transpose: tuple[int, ...], channels: Sequence[str], request: PlanRequest
    ) -> None:
        """See that the edits fit the plan that is made around them.

        Raises:
            AutosegError: if axes or channels are others now.
        """
        before = self.before
        if before is None or not (self.added or any(self.kept(n, request) for n in self.changed)):
            return
        for what, old, new in (
            ("axis order", before.transpose, tuple(transpose)),
            ("channels", before.channels, tuple(channels)),
        ):
            if old != new:
                raise AutosegError(
                    f"edited by hand for other {what}: {list(old)}, where the data now ask for "
                    f"{list(new)}",
                    place=self.place,
                    remedy="plan under another name (--plan NAME), or delete the file",
                )

    def decisions(self, made: Mapping[str, Configuration], request: PlanRequest) -> list[Decision]:
        """One line about the edits that were kept; none if there are none."""
        fields = [
            f"{name}.{key}" for name in made for key in FIELDS if key in self.kept(name, request)
        ]
        gone = [name for name in self.changed if name not in made]
        if not fields and not self.added and not gone:
            return []
        reason = (
            f"edited by hand in {self.place}; flags overrule edits, deleting the file drops them"
        )
        if gone:
            reason += f"; those of {', '.join(gone)} are lost, which is not planned any more"
        value = ", ".join([*fields, *self.added]) or "none"
        return [Decision(what="edits kept", value=value, reason=reason)]

    def _edited(self, name: str, request: PlanRequest) -> Wish:
        """What edits say of a configuration."""
        wish = Wish()
        for source in (_CASCADE_IS_AS, name) if name == _CASCADE else (name,):
            kept = self.kept(source, request)
            if self.before is None or not kept:
                continue
            old = self.before.configurations[source]
            values = {key: value for key, value in values_of(old).items() if key in _SHAPING}
            given = {key: value for key, value in values.items() if key in kept}
            if "network" in kept:
                given |= {"network": old.network, "patch_size": old.patch_size}
            if "patch_size" in given:
                given["patch_place"] = f"{self.place}: configurations.{source}.patch_size"
            wish = replace(wish, **given)
        return wish


NO_EDITS = Edits()


def find_edits(plan: Plan, place: str) -> Edits:
    """Find what was edited since a plan was made.

    Args:
        plan: as its file now says.
        place: the file, for messages.

    Returns:
        The edits; none if the plan does not say what it was made as.
    """
    if plan.made_as is None:
        return NO_EDITS
    changed: dict[str, frozenset[Field]] = {}
    for name, hashes in plan.made_as.items():
        if name in plan.configurations:
            now = _hashes(plan.configurations[name])
            fields = frozenset[Field](
                key for key in FIELDS if hashes.get(key, now[key]) != now[key]
            )
            if fields:
                changed[name] = fields
    added = tuple(name for name in plan.configurations if name not in plan.made_as)
    return Edits(place=place, before=plan, changed=changed, added=added)


def remember(
    made: Mapping[str, Configuration], edits: Edits, request: PlanRequest
) -> dict[str, dict[str, str]]:
    """What a plan notes in ``made_as``.

    Args:
        made: the configurations, edits kept.
        edits: those kept; they stay edits.
        request: whose flags overruled some.
    """
    before = None if edits.before is None else edits.before.made_as
    return {
        name: _hashes(configuration)
        | {key: before[name][key] for key in edits.kept(name, request) if before and name in before}
        for name, configuration in made.items()
    }


def values_of(configuration: Configuration) -> dict[Field, Any]:
    """The fields of a configuration that may be edited.

    The features of the first stage stand for all as long as the others follow from them by the
    planner's rule, so that a network with other features is not taken for another network.
    """
    network, training = configuration.network, configuration.training
    features = network.features_per_stage
    ruled = features_per_stage(len(features), max_features(configuration.dimensions), features[0])
    return {
        "spacing": configuration.spacing,
        "patch_size": configuration.patch_size,
        "batch_size": configuration.batch_size,
        "base_features": features[0],
        "network": network.model_dump(
            exclude={"features_per_stage"} if features == ruled else set[str]()
        ),
        "batch_dice": configuration.batch_dice,
        "normalization": configuration.normalization,
        "use_mask_for_norm": configuration.use_mask_for_norm,
        "previous": configuration.previous,
        "mirror_axes": training.mirror_axes,
        "training": training.model_dump(exclude={"mirror_axes", *_added_later(training)}),
    }


def _added_later(training: TrainingSpec) -> set[str]:
    """Fields that plans of earlier versions lack, where they say what those plans meant."""
    later = ("warmup", "plateau_epochs", "extensions", "init_from")
    return {field for field in later if not getattr(training, field)}


def _hashes(configuration: Configuration) -> dict[str, str]:
    return {
        key: hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]
        for key, value in values_of(configuration).items()
    }
