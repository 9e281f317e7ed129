"""A short training with nnU-Net, to be run by the python of an environment with nnunetv2.

usage: PEER/bin/python tests/interop/peer_trainer.py PLANS CONFIGURATION FOLD EPOCHS STEPS

PLANS is the file of a plan among prepared cases; nnU-Net finds its folders by its environment
variables. With 0 EPOCHS the weights are saved as they are drawn. The trainer is its own, but for
the number of epochs and steps: nnU-Net's command imports all the trainers there are to find one,
with all that they need.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


def main() -> None:
    """Train, and let it predict its validation cases."""
    plans, configuration, fold, epochs, steps = sys.argv[1:]
    file = Path(plans)
    content = json.loads(file.read_text()) | {"continue_training": False}
    description = json.loads((file.parent / "dataset.json").read_text())
    trainer = nnUNetTrainer(
        content,
        configuration,
        fold if fold == "all" else int(fold),
        description,
        torch.device("cpu"),
    )
    if epochs == "0":
        save_as_drawn(trainer, content, description)
        return
    trainer.num_epochs = int(epochs)
    trainer.num_iterations_per_epoch = int(steps)
    trainer.num_val_iterations_per_epoch = 1
    trainer.run_training()
    trainer.perform_actual_validation()


def save_as_drawn(trainer: nnUNetTrainer, plans: dict, description: dict) -> None:
    """Write a model folder without any training."""
    trainer.initialize()
    root = Path(trainer.output_folder_base)
    for name, saved in (("plans.json", plans), ("dataset.json", description)):
        (root / name).write_text(json.dumps(saved))
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))


if __name__ == "__main__":
    main()
