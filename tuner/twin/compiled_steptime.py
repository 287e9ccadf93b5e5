"""The functions of `steptime`, each one that compiled code may call; called from Python they are what they were."""

from __future__ import annotations

from tuner.twin import steptime
from tuner.twin.jit import compilable

attention_s = compilable(steptime.attention_s)
cooled = compilable(steptime.cooled)
experts_s = compilable(steptime.experts_s)
gpu_s = compilable(steptime.gpu_s)
half_tile_share = compilable(steptime.half_tile_share)
heated = compilable(steptime.heated)
launch_s = compilable(steptime.launch_s)
matmul_s = compilable(steptime.matmul_s)
