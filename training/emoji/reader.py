"""A network that tells the kind of a picture: a measure for samples that knows nothing of how they were made."""

import torch
from torch import Tensor, nn

from training.emoji.batches import Batches
from training.emoji.pictures import KINDS, Pictures

_STEPS, _BATCH, _RATE = 900, 64, 3e-3
_SHIFT = 2  # pixels, in either direction
_GRAIN = 0.1  # of the noise on the pictures it learns from, so that it looks at shapes


class Reader(nn.Module):
    """A small convolutional network.

    Args:
        pictures: Those it learns from.
        seed: Of its weights and of what it is shown.
    """

    def __init__(self, pictures: Pictures, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self._body = nn.Sequential(
            *_layer(3, 32), nn.MaxPool2d(2), *_layer(32, 64), nn.MaxPool2d(2), *_layer(64, 128), *_layer(128, 128)
        )
        self._head = nn.Sequential(nn.Dropout(0.3), nn.Linear(128, len(KINDS)))
        self._learn(Batches(pictures))

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """Shape (n, 128), of pictures (n, 3, 24, 24) in [-1, 1]."""
        return torch.cat([self._pooled(some) for some in pictures.split(256)])

    @torch.no_grad()
    def kinds(self, pictures: Tensor) -> Tensor:
        """What each of the pictures (n, 3, 24, 24) in [-1, 1] is read as, shape (n,)."""
        read: Tensor = self._head(self.features(pictures)).argmax(1)
        return read

    def _pooled(self, pictures: Tensor) -> Tensor:
        pooled: Tensor = self._body(pictures).mean((2, 3))
        return pooled

    def _learn(self, batches: Batches) -> None:
        optimizer = torch.optim.AdamW(self.parameters(), lr=_RATE, weight_decay=0.05)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, _STEPS)
        for _ in range(_STEPS):
            pictures, kinds = batches.draw(_BATCH)
            moved = torch.roll(pictures, torch.randint(-_SHIFT, _SHIFT + 1, (2,)).tolist(), (2, 3))
            read = self._head(self._pooled(moved + _GRAIN * torch.randn_like(moved)))
            loss = nn.functional.cross_entropy(read, kinds, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
        self.eval()


def _layer(inside: int, outside: int) -> list[nn.Module]:
    return [nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.GELU()]
