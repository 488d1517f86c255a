# energy-patch apply
# ==== train.py ====
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel
from policy import Policy
from trainer import EnergyTrainer

dist.init_process_group("gloo")
EnergyTrainer(Policy(), EnergyModel(), lr=1e-3).fit(get_loader())
# ==== trainer.py ====
import torch

from energy.energy_model import energy_inbatch_swap_infonce


class EnergyTrainer:
	"""Trains the energy model on frozen features."""

	def __init__(self, policy, energy_model, lr):
		self.policy, self.energy_model = policy, energy_model
		self.optimizer = torch.optim.Adam(energy_model.parameters(), lr=lr)

	def fit(self, loader):
		for batch in loader:
			self.step(batch)

	def step(self, batch):
		hidden = self.policy(batch["observation"])[0].detach()
		loss = energy_inbatch_swap_infonce(self.energy_model, hidden, batch["actions"], batch["pad_mask"])[0]
		self.optimizer.zero_grad()
		loss.backward()
		self.optimizer.step()

	def evaluate(self, batch):
		with torch.no_grad():
			hidden = self.policy(batch["observation"])[0]
			return energy_inbatch_swap_infonce(self.energy_model, hidden, batch["actions"], batch["pad_mask"])[0].item()
# ==== trainer.py, after ====
import torch

from energy.energy_model import energy_inbatch_swap_infonce


class EnergyTrainer:
	"""Trains the energy model on frozen features."""

	def __init__(self, policy, energy_model, lr):
		self.policy, self.energy_model = policy, energy_model
		self.optimizer = torch.optim.Adam(energy_model.parameters(), lr=lr)

	def fit(self, loader):
		for batch in loader:
			self.step(batch)

	def step(self, batch):
		import torch.distributed as dist
		from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
		from energy_losses.ranks import replicate
		hidden = self.policy(batch["observation"])[0].detach()
		replicate(self.energy_model)
		world_size = dist.get_world_size() if dist.is_initialized() else 1
		loss = distributed_energy_inbatch_swap_infonce(self.energy_model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)[0]
		self.optimizer.zero_grad()
		loss.backward()
		self.optimizer.step()

	def evaluate(self, batch):
		import torch.distributed as dist
		from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
		from energy_losses.ranks import replicate
		with torch.no_grad():
			hidden = self.policy(batch["observation"])[0]
			replicate(self.energy_model)
			world_size = dist.get_world_size() if dist.is_initialized() else 1
			return distributed_energy_inbatch_swap_infonce(self.energy_model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)[0].item()
