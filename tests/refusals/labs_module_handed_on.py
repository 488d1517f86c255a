# energy-patch apply
# refused (unsupported), line 7: em.energy_inbatch_swap_infonce is passed to trainer.fit here, not called
import torch
from energy import energy_model as em
from trainer import fit

fit(em.EnergyModel(), loss=em.energy_inbatch_swap_infonce, lr=1e-3)
