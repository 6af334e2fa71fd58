"""What can change a number, as plain data: runs, measurements, workers, and the names that they may use.

Planning a study needs this room alone, so it imports nothing heavy. Must not know how anything is computed.
"""

from private_lora.core.exports import front_door

__getattr__, __dir__, __all__ = front_door(
    __name__,
    split="SplitSpec",
    run="RunSpec",
    generate="GenerateSpec",
    layer="LayerSpec",
    block="BlockSpec",
    costs="CostSpec",
    estimate="EstimateSpec",
    loopback="LoopbackSpec GenerationSpec",
    worker="WorkerSpec",
    worker_view="WorkerViewSpec",
    quantization="Quantization",
)
