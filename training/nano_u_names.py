"""What Nano-U, the origin of both networks, calls their layers, and what this project does."""

NANO_U, BU_NET = "nano_u", "bu_net"
STAGES = (
    3  # of the origin's nano_u on each side of the bottleneck; its builder knows no other number
)
POOLS = ((2, 2), (2, 2), (3, 2))  # of its encoder, at any input size

_NANO_U_PARTS = {
    "dw": "depthwise",
    "bn1": "depthwise_norm",
    "relu1": "depthwise_relu",
    "pw": "pointwise",
    "bn2": "pointwise_norm",
    "relu2": "relu",
}
_BU_NET_PARTS = {
    "dw{0}": "depthwise",
    "bn{0}a": "depthwise_norm",
    "pw{0}": "pointwise",
    "bn{0}b": "pointwise_norm",
    "relu{0}": "relu",
}


def nano_u_layers() -> dict[str, str]:
    """Returns {layer of the origin's nano_u: layer of ours} for convolutions, norms and ReLUs.

    Example:
        >>> layers = nano_u_layers()
        >>> layers["enc1a_dw"], layers["dec2_conv_b_pw"], layers["output"]
        ('encoder_1_1_depthwise', 'decoder_2_2_pointwise', 'logits')
    """
    stages = {"bottleneck_": "bottleneck"}
    for number in range(1, STAGES + 1):
        stages |= {f"enc{number}": f"encoder_{number}", f"dec{number}_conv_": f"decoder_{number}"}
    layers = {
        f"{theirs}{letter}_{part}": f"{ours}_{block}_{name}"
        for theirs, ours in stages.items()
        for block, letter in enumerate("ab", start=1)
        for part, name in _NANO_U_PARTS.items()
    }
    return layers | {"output": "logits"}


def bu_net_layers(stages: int = 9) -> dict[str, str]:
    """Returns the same for bu_net with up to `stages` stages in its encoder.

    Example:
        >>> bu_net_layers()["dec5_conv_bn3b"]
        'decoder_5_3_pointwise_norm'
    """
    parts = {"bottleneck": "bottleneck"}
    for number in range(1, stages + 1):
        parts |= {f"enc{number}": f"encoder_{number}", f"dec{number}_conv": f"decoder_{number}"}
    layers = {
        f"{theirs}_{part.format(block)}": f"{ours}_{block}_{name}"
        for theirs, ours in parts.items()
        for block in (1, 2, 3)
        for part, name in _BU_NET_PARTS.items()
    }
    return layers | {"output_segmentation": "logits"}
