"""The training that the simulators are compared on, in PyTorch: what a client does in one round."""
import torch
from torch import nn

BATCH, LEARNING_RATE = 10, 0.1
# kind: inputs, hidden width (0: a linear model), classes, samples a client
SHAPES = {"linear": (64, 0, 10, 10), "mlp": (784, 128, 10, 50)}
POOL = 64  # clients with data of their own; the others share theirs

torch.set_num_threads(1)


class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        inputs, hidden, classes, _ = SHAPES[kind]
        self.body = nn.Linear(inputs, classes) if hidden == 0 else nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def forward(self, inputs):
        return self.body(inputs)

    def loss(self, inputs, labels, eval=False):  # pfl's name and arguments
        return nn.functional.cross_entropy(self.body(inputs), labels)

    def metrics(self, inputs, labels, eval=True):
        return {}


def data_pool(kind):
    """(float32 [POOL, samples, inputs], int64 [POOL, samples])"""
    inputs, _, classes, samples = SHAPES[kind]
    draw = torch.Generator().manual_seed(0)
    return (torch.randn(POOL, samples, inputs, generator=draw),
            torch.randint(0, classes, (POOL, samples), generator=draw))


def train(net, inputs, labels):
    """One epoch of plain SGD; the last loss."""
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE)
    for at in range(0, len(labels), BATCH):
        optimizer.zero_grad()
        loss = net.loss(inputs[at:at + BATCH], labels[at:at + BATCH])
        loss.backward()
        optimizer.step()
    return float(loss.detach())
