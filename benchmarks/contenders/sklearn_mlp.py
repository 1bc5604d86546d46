"""scikit-learn's MLPClassifier with the reference recipe; its initial weights are its own."""

from clock import Clock

clock = Clock()
import sys
import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits
from torchvision.datasets import MNIST

clock.tick("import")

mnist = MNIST(root=sys.argv[1], train=True)
images = mnist.data.numpy().reshape(-1, 784).astype("float32") / 255
train_images, test_images, train_labels, test_labels = train_test_split(
    images, mnist.targets.numpy(), test_size=0.2, random_state=0
)
clock.tick("load")

threads = int(sys.argv[2])
warnings.simplefilter("ignore", ConvergenceWarning)  # ten epochs are the recipe
with threadpool_limits(threads):
    model = MLPClassifier((100, 100), batch_size=64, alpha=0, max_iter=10, tol=0, n_iter_no_change=11, random_state=0)
    model.fit(train_images, train_labels)
    clock.tick("train")
    accuracy = model.score(test_images, test_labels)
clock.tick("evaluate")
clock.report(accuracy=accuracy, threads=threads)
