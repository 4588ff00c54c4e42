"""The original MobileSAM with random weights in which every part has its say, and its file in the official layout.

Fresh weights hide mistakes: attention biases are zero, norms nearly the identity.
"""

import warnings

import torch
from torch import nn

from tests import torchvision_stub

torchvision_stub.install()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mobile_sam


@torch.no_grad()
def save(path):
    """Write random weights; the file has the official one's 439 keys."""
    torch.manual_seed(0)
    sam = mobile_sam.sam_model_registry["vit_t"]()
    for module in sam.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
    for name, parameter in sam.named_parameters():
        if name.endswith("attention_biases"):
            parameter.normal_(0, 1)
        elif parameter.ndim == 1:
            parameter += 0.02 * torch.randn_like(parameter)
    torch.save(sam.state_dict(), path)
    return path
