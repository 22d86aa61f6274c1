"""Trains a small language model on a weighted mix of tasks.

Usage:
    python run_train.py --depth=4
    accelerate launch run_train.py recipes/quickstart.yaml
    accelerate launch --config_file accelerate_config.yaml run_train.py recipes/default.yaml

Edit the weights here, or leave them to a recipe or to flags (--calc_weight, --ttt_weight), which
win. A task's share of the examples is its weight divided by the sum of all weights.
"""

import sys

from mixgen.main import main

CALCULATOR_WEIGHT = 1.0
TICTACTOE_WEIGHT = 0.5

if __name__ == "__main__":
    sys.exit(main(weights={"calculator": CALCULATOR_WEIGHT, "tictactoe": TICTACTOE_WEIGHT}))
