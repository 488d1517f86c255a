# energy-patch apply
# refused (not-found): not called in this script
import torch
