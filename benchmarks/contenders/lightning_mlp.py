"""Lightning with the reference recipe: progress bar, logger and checkpoints off."""

from clock import Clock

clock = Clock()
import logging
import sys
import warnings

import lightning
import torch
from sklearn.model_selection import train_test_split
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import MNIST

from mnist_pipeline.training.model import MLP

clock.tick("import")

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
mnist = MNIST(root=sys.argv[1], train=True)
images = mnist.data.reshape(-1, 784).float() / 255
train_rows, test_rows = train_test_split(range(60_000), test_size=0.2, random_state=0)
train_set = TensorDataset(images[train_rows], mnist.targets[train_rows])
test_images, test_labels = images[test_rows], mnist.targets[test_rows]
clock.tick("load")


class Model(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = MLP(784, [100, 100], 10)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        images, labels = batch
        return cross_entropy(self.mlp(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.001)


torch.manual_seed(0)
model = Model()
trainer = lightning.Trainer(
    max_epochs=10,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True))
clock.tick("train")
with torch.no_grad():
    accuracy = (model.mlp(test_images).argmax(dim=1) == test_labels).float().mean().item()
clock.tick("evaluate")
clock.report(accuracy=accuracy, threads=torch.get_num_threads())
