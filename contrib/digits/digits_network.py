"""The network in PyTorch; submodule names are the node names of the ONNX file."""

import torch
from torch import Tensor, nn


class DigitsNetwork(nn.Module):
    """Images float32 [n, 1, 8, 8] in 0..1 to logits float32 [n, 10].

    A stem, a pooling, a residual block (He et al. 2016, https://arxiv.org/abs/1512.03385) and two parallel branches
    that are concatenated (Szegedy et al. 2015, https://arxiv.org/abs/1409.4842), so that one small network has the
    usual patterns of fusion. Convolutions have no bias: the batch normalization after each one has.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(1, 16, 3)
        self.conv2, self.bn2 = _convolution(16, 24, 3)
        self.conv3, self.bn3 = _convolution(24, 24, 3)
        self.conv4, self.bn4 = _convolution(24, 24, 3)
        self.conv5a, self.bn5a = _convolution(24, 16, 1)
        self.conv5b, self.bn5b = _convolution(24, 16, 3)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits; the softmax is in the loss, and a node of the exported graph."""
        stem = torch.relu(self.bn1(self.conv1(image)))
        stem = torch.relu(self.bn2(self.conv2(torch.max_pool2d(stem, 2))))
        inner = torch.relu(self.bn3(self.conv3(stem)))
        block = torch.relu(self.bn4(self.conv4(inner)) + stem)
        branch_a = torch.relu(self.bn5a(self.conv5a(block)))
        branch_b = torch.relu(self.bn5b(self.conv5b(block)))
        pooled = torch.cat([branch_a, branch_b], dim=1).mean(dim=(2, 3))
        logits: Tensor = self.fc(self.dropout(pooled))
        return logits


def _convolution(channels_in: int, channels_out: int, kernel: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Return a convolution that keeps the image size, and its batch normalization."""
    convolution = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(channels_out)
