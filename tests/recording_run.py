"""run_train.py, which also writes the rows that each process trains on: `STEP HASH` lines."""

from __future__ import annotations

import os
import sys
from hashlib import blake2b
from pathlib import Path

from mixgen.main import main
from mixgen.training.trainer import MixTrainer

compute_loss = MixTrainer.compute_loss


def recording(self, model, inputs, *args, **kwargs):
    with (Path(os.environ["ROWS_FOLDER"]) / f"rank-{self.args.process_index}").open("a") as file:
        for row in inputs["input_ids"]:
            digest = blake2b(row.numpy().tobytes(), digest_size=8).hexdigest()
            file.write(f"{self.state.global_step} {digest}\n")
    return compute_loss(self, model, inputs, *args, **kwargs)


if __name__ == "__main__":
    MixTrainer.compute_loss = recording
    sys.exit(main(weights={"calculator": 1.0, "tictactoe": 0.5}))
