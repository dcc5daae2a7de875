"""Muon: an optimizer whose step on a matrix changes all its directions equally much.

Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", kellerjordan.github.io/posts/muon,
2024; the scale of the step: Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982. PyTorch's own works in
bfloat16, which is slow on CPUs without it (3.9 s a step here); this one stacks equal shapes, in float32 (0.3 s).
"""

import torch

from course_utils.bonus.peers import Peers


def orthogonal(g, steps=4):
    """Return [n, rows, columns] with the singular vectors of ``g`` and singular values near 1 (Newton-Schulz)."""
    turned = g.shape[1] > g.shape[2]
    x = g.transpose(1, 2) if turned else g
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    return x.transpose(1, 2) if turned else x


class Muon(torch.optim.Optimizer):
    """Momentum, then ``orthogonal``; a step has the size that Adam's would have.

    Args:
        parameters: matrices.
        lr: as for Adam.
        momentum: how much of the last step stays.
        decay: weight decay.
        peers: the processes that share out the matrices.
    """

    def __init__(self, parameters, lr=2e-3, momentum=0.95, decay=0.01, peers=None):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})
        self.peers = peers or Peers()

    @torch.no_grad()
    def step(self):
        """Change the parameters once."""
        for group in self.param_groups:
            shapes, changes = {}, []
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
            for shape, own in shapes.items():
                gradients = []
                for p in own:
                    kept = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    kept.lerp_(p.grad, 1 - group["momentum"])
                    gradients.append(p.grad.lerp(kept, group["momentum"]))
                gradients, mine = torch.stack(gradients), slice(self.peers.rank, None, self.peers.count)
                changes.append(torch.zeros_like(gradients))
                changes[-1][mine] = orthogonal(gradients[mine]) * (0.2 * max(shape) ** 0.5)
            changed = [p for own in shapes.values() for p in own]
            flat = self.peers.exchange(changes).sum(0).split([p.numel() for p in changed])
            for p, c in zip(changed, flat, strict=True):
                p.mul_(1 - group["lr"] * group["decay"]).sub_(c.view_as(p), alpha=group["lr"])
