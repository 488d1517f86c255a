"""Every rank validates a different number of batches with the script's own forward pass; no collective is allowed.

uneven_validation.py FOLDER SCRIPT
"""

import importlib.util
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

folder, script = sys.argv[1:]
sys.path[0] = str(Path(script).resolve().parent)
rank = int(os.environ["RANK"])

specification = importlib.util.spec_from_file_location("finetune_Energy", script)
training = importlib.util.module_from_spec(specification)
sys.modules["finetune_Energy"] = training
specification.loader.exec_module(training)

dist.init_process_group("gloo")
vla = training.wrap(training.TinyVLA())
action_head = training.wrap(training.ChunkRegressionHead(32, 16, training.ACTION_DIM).to(torch.bfloat16))
energy_model = training.EnergyModel(32, training.ACTION_DIM)

issued = []
collectives = """
    all_gather all_gather_into_tensor all_gather_object all_reduce all_to_all barrier broadcast
    broadcast_object_list gather monitored_barrier reduce reduce_scatter scatter send recv
"""
for name in collectives.split():
    setattr(dist, name, lambda *args, name=name, **kwargs: issued.append(name))

data = training.Demonstrations(3 * (rank + 1), split_seed=3)
loader = training.DataLoader(data, batch_size=3, collate_fn=training.right_padding_collator)
losses = []
vla.eval()
with torch.no_grad():
    for batch in loader:
        _, metrics, _ = training.run_forward_pass(
            vla=vla,
            action_head=action_head,
            batch=batch,
            device="cpu",
            num_patches=vla.module.vision_backbone.get_num_patches(),
            use_l1=True,
            energy_model=energy_model,
        )
        losses.append(metrics["energy_loss"])
Path(folder, f"rank{rank}.txt").write_text(f"{len(losses)} {len(issued)} {min(losses):.6f}")
