# energy-patch apply --no-sync
# refused (unsupported), line 3: takes (energy_model, h, a_pos, tau, pad_mask) instead of
def energy_inbatch_swap_infonce(energy_model, h, a_pos, tau=0.5, pad_mask=None):
    pass
x = energy_inbatch_swap_infonce(m, h, a, 0.5, mask)
