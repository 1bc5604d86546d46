"""The same job by hand: a Prefect flow around the tutorial, tracked in MLflow, as people write it from the documents.

MLFLOW_TRACKING_URI=sqlite:///mlflow.db python by_hand.py MNIST_data
"""

import sys

import matplotlib.pyplot as plt
import mlflow
import numpy as np
import torch
from matplotlib.figure import Figure
from prefect import flow, task
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import MNIST

BATCH_SIZE, EPOCHS, LR = 64, 10, 0.001


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 100)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Linear(100, 100)
        self.relu2 = nn.ReLU()
        self.fc3 = nn.Linear(100, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc3(self.relu2(self.fc2(self.relu1(self.fc1(x)))))
        return logits


@task
def download(root: str) -> MNIST:
    return MNIST(root=root, train=True, download=True)


@task
def split(mnist: MNIST) -> tuple[TensorDataset, TensorDataset]:
    images = mnist.data.reshape(-1, 784).float().numpy() / 255
    train_x, test_x, train_y, test_y = train_test_split(images, mnist.targets.numpy(), test_size=0.2, random_state=0)
    train_set = TensorDataset(torch.from_numpy(train_x), torch.from_numpy(train_y))
    return train_set, TensorDataset(torch.from_numpy(test_x), torch.from_numpy(test_y))


@task
def train(train_set: TensorDataset) -> MLP:
    torch.manual_seed(0)
    model = MLP()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True, drop_last=True)
    for epoch in range(EPOCHS):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        print(f"Epoch: {epoch + 1}/{EPOCHS}, Loss: {loss.item():.3f}")
        mlflow.log_metric("train_loss", loss.item(), step=epoch + 1)
    return model


@task
def evaluate(model: MLP, test_set: TensorDataset) -> float:
    model.eval()
    correct = 0
    with torch.no_grad():
        for x, y in DataLoader(test_set, batch_size=BATCH_SIZE):
            correct += (model(x).argmax(dim=1) == y).sum().item()
    accuracy = correct / len(test_set)
    mlflow.log_metric("test_accuracy", accuracy)
    return accuracy


@task
def visualize(model: MLP, test_set: TensorDataset) -> Figure:
    images, labels = test_set[:10]
    predicted = model(images).argmax(dim=1)
    figure, axes = plt.subplots(2, 5, figsize=(15, 6))
    figure.suptitle("MLP INFERENCE RESULTS")
    for axis, image, label, guess in zip(axes.ravel(), images, labels, predicted, strict=True):
        axis.imshow(image.reshape(28, 28), cmap="gray")
        axis.set_title(f"Label: {label}, Predict: {guess}")
        axis.axis("off")
    mlflow.log_figure(figure, "predictions.png")
    return figure


@flow
def train_flow(root: str) -> float:
    mlflow.set_experiment("mnist by hand")
    with mlflow.start_run():
        mlflow.log_params({"batch_size": BATCH_SIZE, "epochs": EPOCHS, "lr": LR, "hidden": "100, 100"})
        train_set, test_set = split(download(root))
        model = train(train_set)
        accuracy = evaluate(model, test_set)
        visualize(model, test_set)
        example: np.ndarray = test_set[:10][0].numpy()
        mlflow.pytorch.log_model(model, name="model", input_example=example, registered_model_name="mnist-by-hand")
    return accuracy


if __name__ == "__main__":
    print(f"{train_flow(sys.argv[1]):.2%}")
