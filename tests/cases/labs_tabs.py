# energy-patch apply
import torch
import torch.distributed as dist
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy
from dataclasses import dataclass

@dataclass
class Opt:
	lr: float = 1e-3
	wd: float = 0.0		# weight decay

class Runner(object):
	def __init__(self, opt: Opt):
		self.opt = opt
		self.policy, self.net = Policy(), EnergyModel()
		self.optim = torch.optim.AdamW(self.net.parameters(), lr=opt.lr, weight_decay=opt.wd)

	def run(self):
		for batch in get_loader():
			if len(batch["actions"]) > 1:
				h = self.policy(batch["observation"])[0].detach()
				loss, pos, neg = energy_inbatch_swap_infonce(
					self.net,
					h,
					batch["actions"],
					batch["pad_mask"],
				)
				self.optim.zero_grad()
				loss.backward()
				self.optim.step()

dist.init_process_group("gloo")
Runner(Opt()).run()
# ==== after ====
import torch
import torch.distributed as dist
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy
from dataclasses import dataclass

@dataclass
class Opt:
	lr: float = 1e-3
	wd: float = 0.0		# weight decay
	energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss

class Runner(object):
	def __init__(self, opt: Opt):
		self.opt = opt
		self.policy, self.net = Policy(), EnergyModel()
		self.optim = torch.optim.AdamW(self.net.parameters(), lr=opt.lr, weight_decay=opt.wd)

	def run(self):
		for batch in get_loader():
			if len(batch["actions"]) > 1:
				h = self.policy(batch["observation"])[0].detach()
				replicate(self.net)
				world_size = dist.get_world_size() if dist.is_initialized() else 1
				loss, pos, neg = distributed_energy_inbatch_swap_infonce(
					self.net,
					h,
					batch["actions"],
					batch["pad_mask"],
					tau=self.opt.energy_tau,
					world_size=world_size,
				)
				self.optim.zero_grad()
				loss.backward()
				self.optim.step()

dist.init_process_group("gloo")
Runner(Opt()).run()
