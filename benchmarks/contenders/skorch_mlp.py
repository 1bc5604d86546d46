"""skorch with the reference recipe: no callbacks that print or score."""

from clock import Clock

clock = Clock()
import sys

import torch
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torchvision.datasets import MNIST

from mnist_pipeline.training.model import MLP

clock.tick("import")

mnist = MNIST(root=sys.argv[1], train=True)
images = mnist.data.reshape(-1, 784).float() / 255
train_rows, test_rows = train_test_split(range(60_000), test_size=0.2, random_state=0)
train_images, train_labels = images[train_rows], mnist.targets[train_rows]
test_images, test_labels = images[test_rows], mnist.targets[test_rows]
clock.tick("load")

torch.manual_seed(0)
net = NeuralNetClassifier(
    MLP(784, [100, 100], 10),
    criterion=torch.nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=0.001,
    max_epochs=10,
    batch_size=64,
    iterator_train__shuffle=True,
    iterator_train__drop_last=True,
    train_split=None,
    callbacks__valid_acc=None,
    verbose=0,
)
net.fit(train_images, train_labels)
clock.tick("train")
accuracy = float((net.predict(test_images) == test_labels.numpy()).mean())
clock.tick("evaluate")
clock.report(accuracy=accuracy, threads=torch.get_num_threads())
