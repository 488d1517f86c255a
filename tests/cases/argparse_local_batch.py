# energy-patch apply --strategy local-batch
from argparse import ArgumentParser
from energy.energy_model import energy_inbatch_swap_infonce

parser = ArgumentParser()
parser.add_argument("--batch-size", type=int, default=3)
parser.add_argument("--grad-accumulation-steps", type=int, default=1, help="steps")
args = parser.parse_args()
energy_inbatch_swap_infonce(m, h, a)[0].backward()
# ==== after ====
from argparse import ArgumentParser
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

parser = ArgumentParser()
parser.add_argument("--batch-size", type=int, default=6)
parser.add_argument("--grad-accumulation-steps", type=int, default=2, help="steps")
args = parser.parse_args()
energy_inbatch_swap_infonce(replicate(m), h, a)[0].backward()
