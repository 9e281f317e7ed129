"""A short training with nnU-Net, to be run by the python of an environment with nnunetv2.

usage: PEER/bin/python tests/interop/peer_trainer.py PLANS CONFIGURATION FOLD EPOCHS STEPS

PLANS is the file of a plan among prepared cases; nnU-Net finds its folders by its environment
variables. The trainer is its own, but for the number of epochs and steps: nnU-Net's command
imports all the trainers there are to find one, with all that they need.
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
    trainer.num_epochs = int(epochs)
    trainer.num_iterations_per_epoch = int(steps)
    trainer.num_val_iterations_per_epoch = 1
    trainer.run_training()
    trainer.perform_actual_validation()


if __name__ == "__main__":
    main()
