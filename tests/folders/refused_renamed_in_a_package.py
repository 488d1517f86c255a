# energy-patch apply
# refused (not-found): losses/__init__.py, line 1: the loss by the name infonce; import energy_inbatch_swap_infonce itself and call that
# ==== train.py ====
from losses import EnergyModel, infonce

infonce(EnergyModel(), h, a)
# ==== losses/__init__.py ====
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce as infonce
