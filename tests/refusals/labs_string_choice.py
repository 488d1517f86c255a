# energy-patch apply
# refused (not-found): line 11: its name in a string
import argparse

import torch

from energy.energy_model import EnergyModel
from trainer import Trainer

parser = argparse.ArgumentParser()
parser.add_argument("--loss", default="energy_inbatch_swap_infonce")
args = parser.parse_args()
Trainer(EnergyModel(), loss=args.loss).fit()
