"""The same networks and the same two updates in PyTorch, as its users write them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as f

_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
_CATEGORIES = 10
_CODES = 12  # categories and two continuous codes


def take_steps(
    batch_size: int,
    latents: int,
    recommended: bool = False,
    compiled: bool = False,
    bfloat16: bool = False,
) -> Callable:
    """`take(batches)`: a step for each, `[B, 28, 28, 1]`.

    Args:
        batch_size: images in a batch.
        latents: width of the generator's input.
        recommended: the objective of `ours.RECOMMENDED` in place of the paper's: each
            image is seen augmented, too, and I(c; x) and equivariance are in D's loss.
        compiled: by torch.compile.
        bfloat16: of what autocast chooses.
    """
    torch.backends.cuda.matmul.allow_tf32 = True  # as XLA does by default
    cast = torch.autocast(_DEVICE, torch.bfloat16, enabled=bfloat16)
    generator = _generator(latents).to(_DEVICE)
    judges = _Judges().to(_DEVICE)
    adam_d = torch.optim.Adam(judges.parameters(), 2e-4, (0.5, 0.999))
    adam_g = torch.optim.Adam(generator.parameters(), 1e-3, (0.5, 0.999))

    def see(images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        if not recommended:
            return *judges(images), None
        copies, changes = _warp(images)
        return *judges(torch.cat([images, copies])), changes

    def loss_d(real: Tensor, fake: Tensor, category: Tensor, uniform: Tensor) -> Tensor:
        on_real, q_real, changes = see(real)
        on_fake, q_fake, _ = see(fake)
        loss = f.softplus(-on_real[:batch_size]) + f.softplus(on_fake[:batch_size])
        loss = loss.mean() - _information(q_fake, category, uniform)
        return loss if changes is None else loss - _real_information(q_real, changes)

    def loss_g(fake: Tensor, category: Tensor, uniform: Tensor) -> Tensor:
        on_fake, q_fake, _ = see(fake)
        loss = f.softplus(-on_fake[:batch_size]).mean()
        return loss - _information(q_fake, category, uniform)

    draw: Any = generator
    if compiled:
        import torch._inductor.config as inductor

        # Forward and backward passes disagreed on the layout of activations on a GPU
        inductor.layout_optimization = False
        draw, loss_d, loss_g = map(torch.compile, (generator, loss_d, loss_g))

    def step(real: Tensor) -> None:
        category = torch.randint(_CATEGORIES, (batch_size,), device=_DEVICE)
        rest = _symmetric(1, batch_size, latents - _CATEGORIES)
        uniform = rest[:, :2]
        with cast:
            fake = draw(torch.cat([f.one_hot(category, _CATEGORIES).float(), rest], 1))
            loss = loss_d(real, fake.detach(), category, uniform)
        adam_d.zero_grad()
        loss.backward()
        adam_d.step()
        adam_g.zero_grad()
        with cast:
            loss = loss_g(fake, category, uniform)
        loss.backward(inputs=list(generator.parameters()))
        adam_g.step()

    def take(batches: Any) -> None:
        for images in batches:
            batch = torch.from_numpy(images).to(_DEVICE)
            step((batch.permute(0, 3, 1, 2).float() / 255).contiguous())
        if _DEVICE == "cuda":
            torch.cuda.synchronize()

    return take


def _generator(latents: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(latents, 1024, bias=False),
        nn.BatchNorm1d(1024),
        nn.ReLU(),
        nn.Linear(1024, 6272, bias=False),
        nn.BatchNorm1d(6272),
        nn.ReLU(),
        nn.Unflatten(1, (128, 7, 7)),
        nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 1, 4, 2, 1),
        nn.Sigmoid(),
    )


class _Judges(nn.Module):
    """Images `[N, 1, 28, 28]` -> D's logits `[N, 1]` and Q's parameters `[N, 12]`."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 64, 4, 2, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(64, 128, 4, 2, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            nn.Linear(6272, 1024, bias=False),
            nn.BatchNorm1d(1024),
            nn.LeakyReLU(0.1),
        )
        self.head = nn.Linear(1024, 1)
        self.recognizer = nn.Sequential(
            nn.Linear(1024, 128, bias=False),
            nn.BatchNorm1d(128),
            nn.LeakyReLU(0.1),
            nn.Linear(128, _CODES),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(images)
        return self.head(features), self.recognizer(features)


def _symmetric(limit: float, *shape: int) -> Tensor:
    return (torch.rand(*shape, device=_DEVICE) * 2 - 1) * limit


def _warp(images: Tensor) -> tuple[Tensor, Tensor]:
    """Copies turned, sheared, scaled and moved, and how much: slant, width `[N, 2]`."""
    n = len(images)
    turn, lean, stretch = _symmetric(0.35, n), _symmetric(0.3, n), _symmetric(0.2, n, 2)
    move, scale = _symmetric(0.18, n, 2, 1), stretch.exp()
    cos, sin = turn.cos() * scale[:, 0], turn.sin() * scale[:, 1]
    rows = [torch.stack([cos, lean - sin], 1), torch.stack([sin, cos], 1)]
    matrix = torch.cat([torch.stack(rows, 1), move], 2)
    grid = f.affine_grid(matrix, list(images.shape), align_corners=False)
    copies = f.grid_sample(images, grid, align_corners=False)
    return copies, torch.stack([turn + lean, stretch[:, 0]], 1)


def _information(q: Tensor, category: Tensor, uniform: Tensor) -> Tensor:
    """I(c; G), of the category from copies too."""
    copies = len(q) // len(uniform)
    of_category = -f.cross_entropy(q[:, :_CATEGORIES], category.repeat(copies))
    continuous = (q[: len(uniform), _CATEGORIES:] - uniform) ** 2
    return of_category - continuous.sum(1).mean()


def _real_information(q: Tensor, changes: Tensor) -> Tensor:
    """I(c; x) + 4 H(c) of images and their copies, and 0.2 I(c' - c; w)."""
    plain, copies = q.float().chunk(2)
    p, p_copies = (x[:, :_CATEGORIES].softmax(1) for x in (plain, copies))
    joint = p.T @ p_copies / len(p)
    usage = (_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / 2
    moved = (copies - plain)[:, _CATEGORIES:]
    a, b = moved - moved.mean(0), changes - changes.mean(0)
    squared = (a * b).mean(0) ** 2 / ((a**2).mean(0) * (b**2).mean(0) + 1e-6)
    equivariance = -0.5 * torch.log1p(-squared.clamp(max=1 - 1e-6))
    return 2 * usage - _entropy(joint) + 4 * usage + 0.2 * equivariance.sum()


def _entropy(p: Tensor) -> Tensor:
    return -(p * (p + 1e-6).log()).sum()
