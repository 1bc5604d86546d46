"""The yardstick: the tutorial's script as people write it, with a DataLoader over a TensorDataset and default Adam."""

from clock import Clock

clock = Clock()
import sys

import torch
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import MNIST

clock.tick("import")

mnist = MNIST(root=sys.argv[1], train=True)
images = mnist.data.reshape(-1, 784).float() / 255
train_images, test_images, train_labels, test_labels = train_test_split(
    images.numpy(), mnist.targets.numpy(), test_size=0.2, random_state=0
)
train_set = TensorDataset(torch.from_numpy(train_images), torch.from_numpy(train_labels))
test_set = TensorDataset(torch.from_numpy(test_images), torch.from_numpy(test_labels))
train_loader = DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True)
test_loader = DataLoader(test_set, batch_size=64)
clock.tick("load")


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 100)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Linear(100, 100)
        self.relu2 = nn.ReLU()
        self.fc3 = nn.Linear(100, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc3(self.relu2(self.fc2(self.relu1(self.fc1(x)))))


torch.manual_seed(0)
model = MLP()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 10
for epoch in range(epochs):
    model.train()
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
    print(f"Epoch: {epoch + 1}/{epochs}, Loss: {loss.item():.3f}", file=sys.stderr)
clock.tick("train")

model.eval()
correct = 0
with torch.no_grad():
    for x, y in test_loader:
        correct += (model(x).argmax(dim=1) == y).sum().item()
clock.tick("evaluate")
clock.report(accuracy=correct / len(test_set), threads=torch.get_num_threads())
